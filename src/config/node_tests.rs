//! What `[node]` takes, and the sentences for what it does not.

use std::io::Write;

use super::*;
use crate::config::{Config, Env};

fn load(text: &str, variables: &[(&str, &str)]) -> Result<NodeConfig, String> {
    let mut file = tempfile::NamedTempFile::new().unwrap();
    write!(file, "{text}\n[[cameras]]\ntwin_id = \"cam\"\n").unwrap();
    let env: Env = [("TWIN_ID", "Node_1.shop")]
        .iter()
        .chain(variables)
        .copied()
        .collect();
    let path = file.path().display().to_string();
    Config::load(Some(file.path()), &env)
        .map(|config| config.node)
        .map_err(|error| error.to_string().replace(&path, "FILE"))
}

#[test]
fn a_node_is_alone_unless_told_and_has_the_name_of_its_twin() {
    let node = load("", &[]).unwrap();
    assert_eq!(node.share, ShareConfig::All);
    assert_eq!((node.name.as_str(), node.capacity), ("node-1-shop", 10));
}

#[test]
fn a_shard_comes_from_the_file_or_from_variables() {
    let third = ShareConfig::Shard { index: 2, count: 3 };
    let text = "[node]\nshard = { index = 2, count = 3 }";
    assert_eq!(load(text, &[]).unwrap().share, third);
    let text = "[node.shard]\ncount = 3";
    let index = [("TWINSIGHT_NODE__SHARD__INDEX", "2")];
    assert_eq!(load(text, &index).unwrap().share, third);
    let error = load(text, &[]).unwrap_err();
    assert!(error.contains("needs `index` and `count`"), "{error}");
    let index = [("TWINSIGHT_NODE__SHARD__INDEX", "3")];
    let error = load(text, &index).unwrap_err();
    assert!(error.contains("a whole number from 0 to 2"), "{error}");
}

#[cfg(all(feature = "etcd", feature = "kubernetes"))]
#[test]
fn a_pool_has_an_engine_for_its_leases() {
    let text = "[node]\nname = \"a\"\ncapacity = 20\npool = \"shop\"\n[node.lease]\nengine = \"etcd\"\n\
                url = \"http://etcd:2379\"\nduration_ms = 4000";
    let node = load(text, &[]).unwrap();
    let ShareConfig::Pool(pool) = &node.share else {
        panic!("{node:?}");
    };
    assert_eq!((node.name.as_str(), node.capacity), ("a", 20));
    assert_eq!(pool.lease_duration, Duration::from_secs(4));
    let LeaseEngineConfig::Etcd(etcd) = &pool.engine else {
        panic!("{pool:?}");
    };
    assert_eq!(etcd.urls, ["http://etcd:2379"]);
    assert_eq!(etcd.client, None);
    let files = "\nclient_cert_file = \"tls.crt\"\nclient_key_file = \"tls.key\"";
    let text = text.replace("http://", "https://") + files;
    let ShareConfig::Pool(pool) = load(&text, &[]).unwrap().share else {
        panic!("no pool");
    };
    let LeaseEngineConfig::Etcd(etcd) = &pool.engine else {
        panic!("{pool:?}");
    };
    let client = ClientCertificate {
        cert_file: "tls.crt".into(),
        key_file: "tls.key".into(),
    };
    assert_eq!(etcd.client, Some(client));
    let text =
        "[node]\npool = \"shop\"\n[node.lease]\nengine = \"kubernetes\"\nnamespace = \"vision\"";
    let ShareConfig::Pool(pool) = load(text, &[]).unwrap().share else {
        panic!("no pool");
    };
    let namespace = Some("vision".to_owned());
    assert_eq!(pool.engine, LeaseEngineConfig::Kubernetes { namespace });
}

#[cfg(all(feature = "etcd", feature = "kubernetes"))]
#[test]
fn each_mistake_has_its_sentence() {
    for (text, sentence) in [
        ("[node]\nname = \"A\"", "1 to 63 small letters"),
        ("[node]\npool = \"shop\"", "add `[node.lease]`"),
        ("[node.lease]\nengine = \"etcd\"", "add `node.pool`"),
        (
            "[node]\npool = \"p\"\n[node.lease]\nengine = \"zookeeper\"",
            "\"kubernetes\" or \"etcd\"",
        ),
        (
            "[node]\npool = \"p\"\n[node.lease]\nengine = \"etcd\"",
            "add `node.lease.url`",
        ),
        (
            "[node]\npool = \"p\"\n[node.lease]\nengine = \"etcd\"\nurl = [\"etcd:2379\"]",
            "addresses like",
        ),
        (
            "[node]\npool = \"p\"\n[node.lease]\nengine = \"etcd\"\nurl = \"https://a\"\nclient_cert_file = \"c\"",
            "has `client_cert_file` and no `client_key_file`: add it, or remove `client_cert_file` for an etcd that asks for no certificate",
        ),
        (
            "[node]\npool = \"p\"\n[node.lease]\nengine = \"etcd\"\nurl = \"https://a\"\nclient_key_file = \"k\"",
            "has `client_key_file` and no `client_cert_file`",
        ),
        (
            "[node]\npool = \"p\"\n[node.lease]\nengine = \"etcd\"\nurl = \"http://a\"\nclient_cert_file = \"c\"\nclient_key_file = \"k\"",
            "use https://, or remove it with its `client_key_file`",
        ),
        (
            "[node]\npool = \"p\"\n[node.lease]\nengine = \"kubernetes\"\nclient_cert_file = \"c\"\nclient_key_file = \"k\"",
            "`node.lease.client_cert_file` means nothing to the engine \"kubernetes\"",
        ),
        (
            "[node]\npool = \"p\"\n[node.lease]\nengine = \"kubernetes\"\nurl = \"http://a\"",
            "`node.lease.url` means nothing to the engine \"kubernetes\"",
        ),
        (
            "[node]\npool = \"p\"\nshard = { index = 0, count = 1 }\n[node.lease]\nengine = \"kubernetes\"",
            "two ways to share cameras",
        ),
        (
            "[node]\npool = \"p\"\n[node.lease]\nengine = \"kubernetes\"\n[defaults]\nconnect = \"accept\"",
            "camera cam dials this one",
        ),
        ("[node]\npol = \"p\"", "the nearest is `node.pool`"),
        (
            "[node.lease]\nengin = \"etcd\"",
            "the nearest is `node.lease.engine`",
        ),
    ] {
        let error = load(text, &[]).unwrap_err();
        assert!(error.contains(sentence), "{text}: {error}");
    }
    let hush =
        "[node]\npool = \"p\"\n[node.lease]\nengine = \"etcd\"\nurl = \"http://u:hush@etcd\"";
    let error = load(hush, &[]).unwrap_err();
    assert!(!error.contains("hush"), "{error}");
}
