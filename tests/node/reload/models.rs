//! Models that a change brings, and that take long or are of no use.

use super::*;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_model_that_loads_for_long_holds_up_no_other_change() {
    let url = start_hub(DevHubOptions::default()).await;
    let (app, _messages) = fake::listen(&url).await;
    let camera = |twin: &str| format!("[[cameras]]\ntwin_id = \"{twin}\"\n");
    let follower = Follower::start(&url, &camera("cam-a")).await;
    follower.until_cameras(&["cam-a"]).await;
    // The slow model is asked for by the file, and its request is answered once it is there.
    let slow = format!("{}model = \"{SLOW}\"\n", camera("cam-a"));
    std::fs::write(&follower.file, &slow).unwrap();
    let mut asked = tokio::spawn(follower.node.reload());
    // Meanwhile the hub's settings and a newer file are applied.
    set(&app, json!({"maxFps": 3, "cameras": ["cam-a", "cam-b"]})).await;
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    assert!(!asked.is_finished(), "it waits for its model");
    set(&app, json!({"maxFps": 3})).await;
    follower.until_cameras(&["cam-a"]).await;
    let newer = camera("cam-a") + &camera("cam-c");
    assert_eq!(follower.reload(&newer).await, Reloaded::Applied);
    follower.until_cameras(&["cam-a", "cam-c"]).await;
    // The newest wins: the slow model is there, and nobody wants it any more.
    for _ in 0..2 {
        follower.gate.send(()).unwrap();
    }
    let outcome = tokio::time::timeout(DEADLINE, &mut asked).await.unwrap();
    assert_eq!(outcome.unwrap(), Reloaded::Unchanged);
    follower.until_cameras(&["cam-a", "cam-c"]).await;
    // And where it is still wanted it is used.
    for _ in 0..2 {
        follower.gate.send(()).unwrap();
    }
    assert_eq!(follower.reload(&slow).await, Reloaded::Applied);
    let model = || follower.node.cameras()[0].settings.model.clone();
    let used = async {
        while model() != SLOW {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, used).await.unwrap();
    follower.node.shutdown().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn models_that_are_of_no_use_are_loaded_once_for_a_change() {
    let url = start_hub(DevHubOptions::default()).await;
    let (app, _messages) = fake::listen(&url).await;
    let text = "[[cameras]]\ntwin_id = \"cam-a\"\n";
    let follower = Follower::start(&url, text).await;
    follower.until_cameras(&["cam-a"]).await;
    // The file needs a model of its own; the hub's settings one without the class that they ask for, then a broken one.
    let with =
        |model: &str| format!("{text}[[cameras]]\ntwin_id = \"cam-b\"\nmodel = \"{model}\"\n");
    set(&app, json!({"model": "third", "classes": ["unheard-of"]})).await;
    let sentence =
        "camera cam-a/default: model `third` has no class `unheard-of`; correct `classes`";
    until_reported(&app, sentence.into()).await;
    let loads = |follower: &Follower| follower.loads.load(std::sync::atomic::Ordering::Relaxed);
    let refused = follower.reload(&with(TWO)).await;
    assert!(
        matches!(&refused, Reloaded::Refused(reason) if reason.contains(sentence)),
        "{refused:?}"
    );
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    set(&app, json!({"model": BROKEN})).await;
    let broken = ModelError::Name(BROKEN.to_owned()).to_string();
    until_reported(&app, broken.into()).await;
    let refused = follower.reload(&with("fourth")).await;
    assert!(matches!(&refused, Reloaded::Refused(_)), "{refused:?}");
    follower.until_cameras(&["cam-a", "cam-b"]).await;
    let used = async {
        while follower.node.cameras()[1].settings.model != "fourth" {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(DEADLINE, used).await.unwrap();
    // Two workers, a handful of models, each tried a few times.
    assert!(loads(&follower) < 60, "{} loads", loads(&follower));
    follower.node.shutdown().await;
}
