//! Twins of cameras, and the node's own.

use super::*;

const WHERE: &str = "twin ids are found in the console beside the device id, and in what the twin's own app gets as TWIN_ID";

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn ids_that_are_not_those_of_camera_twins() {
    let url = strict_hub(vec![
        twin(fake::NODE, "dev-node", "home"),
        twin("cam-a", "dev-a", "home"),
        twin("cam-t", "dev-t", "elsewhere"),
        json!({"id": "lens", "type": "Peripheral"}),
    ])
    .await;
    let config = ["cam-a", "nobody", "dev-a", "dev-node", "cam-t", "lens"]
        .map(|id| camera(id, "connect = \"accept\"\n"))
        .concat();
    let check = Check::run(&url, &config, &[]);
    check.fails(4);
    check.begins("ok", "camera cam-a/default twin", "the hub knows it");
    check.says(
        "fail",
        "camera nobody/default twin",
        &format!(
            "the hub knows no such twin (Twin not found); correct the camera's `twin_id`: it may be a device id, \
             or a twin of another tenant; {WHERE}"
        ),
    );
    check.says(
        "fail",
        "camera dev-a/default twin",
        &format!(
            "the hub knows no such twin: it is the device id of twin cam-a; if cam-a is meant, write that; {WHERE}"
        ),
    );
    check.says(
        "fail",
        "camera dev-node/default twin",
        &format!(
            "the hub knows no such twin: it is the device id of twin node-1; if node-1 is meant, write that; {WHERE}"
        ),
    );
    check.says(
        "fail",
        "camera cam-t/default twin",
        "it is of tenant elsewhere, and this node is of tenant home: the hub passes nothing between tenants; \
         move the camera or the node into one tenant, or correct the camera's `twin_id`",
    );
    check.says(
        "warn",
        "camera lens/default twin",
        "the hub knows it, type Peripheral; a peripheral that dials signs with its app's Edge twin, and would be \
         refused; set the camera's `twin_id` to the Edge twin of its app, or `connect` to \"dial\"",
    );
    check.says(
        "skip",
        "camera nobody/default",
        "skipped, because its twin cannot be used",
    );
    check.says(
        "skip",
        "camera cam-t/default",
        "skipped, because its twin cannot be used",
    );
    check.begins("ok", "camera cam-a/default", "it dials this node");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn an_own_twin_id_that_is_not_one() {
    let url = strict_hub(vec![twin("cam-a", "dev-a", "home")]).await;
    let config = camera("cam-a", "connect = \"accept\"\n");
    let unknown = Check::run(&url, &config, &[("TWIN_ID", "nobody")]);
    unknown.fails(1);
    unknown.says(
        "fail",
        "own twin nobody",
        &format!(
            "the hub knows no such twin (Twin not found); correct TWIN_ID (`hub.twin_id`): it may be a device id, \
             or a twin of another tenant; {WHERE}"
        ),
    );
    unknown.begins("ok", "camera cam-a/default twin", "the hub knows it");
    let device = [("TWIN_ID", "dev-1"), ("DEVICE_ID", "dev-1")];
    let own_device = format!(
        "it is DEVICE_ID, the id of the device, and no twin's; set TWIN_ID (`hub.twin_id`) to the id of this \
         app's own twin; {WHERE}"
    );
    let configured = Check::run(&url, &config, &device);
    configured.fails(1);
    configured.says("fail", "own twin dev-1", &own_device);
    // Without DEVICE_ID the hub tells the device that it runs on.
    let told = Check::run(&url, &config, &[("TWIN_ID", "dev-device")]);
    told.fails(1);
    told.says(
        "fail",
        "own twin dev-device",
        &format!(
            "the hub knows no such twin: it is the id of the device that this node runs on; write the twin id \
             instead of the device id; {WHERE}"
        ),
    );
    let other = Check::run(&url, "", &[("TWIN_ID", "cam-a"), ("DEVICE_ID", "dev-1")]);
    other.fails(0);
    other.says(
        "warn",
        "own twin cam-a",
        "the hub knows it, on device dev-a, and DEVICE_ID is dev-1; correct the one that is wrong: TWIN_ID or DEVICE_ID",
    );
    // In direct mode only the hub knows which twin is the own one.
    let direct = Check::run(
        "",
        &camera("device-dev-1", "connect = \"accept\"\n"),
        &[
            ("PHYHUB_DIRECT", "true"),
            ("PHYHUB_URL", &url),
            ("DEVICE_ID", "dev-1"),
            ("ACCESS_KEY", "any"),
        ],
    );
    direct.fails(1);
    direct.says(
        "ok",
        "joining the hub",
        "joined as device dev-1, twin device-dev-1",
    );
    direct.says(
        "fail",
        "camera device-dev-1/default twin",
        "it is the node's own twin; set the camera's `twin_id` to the camera's twin",
    );
    // It is known also where there is no hub to ask.
    let away = Check::run(&format!("http://{}", unused_address()), "", &device);
    away.fails(2);
    away.says("fail", "own twin dev-1", &own_device);
}
