//! One camera's model has a stand-in on this machine and is asked by gRPC; the other's has none and is asked by HTTP where the server can
//! do that. Whatever is done to the server, no result is old, and both are the server's own again within two seconds of its return.

use super::*;

const BACKED: &str = "cam-backed";
const LONE: &str = "cam-lone";

/// The models by the names that the node has for them.
const BACKED_MODEL: &str = "backed";
const LONE_MODEL: &str = "lone";
const FALLBACK: &str = "nanodet_g_coco_int8";

const MAX_AGE: Duration = Duration::from_millis(500);

/// MLServer takes its time where other tests have the processors too.
fn deadline_of(make: Make) -> Duration {
    match make {
        Make::Triton => Duration::from_millis(500),
        Make::MlServer | Make::KServe => Duration::from_millis(1500),
    }
}

/// What a frame may take beyond the longest wait for inference, and beyond the longest inference; a machine with something else to do is
/// part of the test.
const SLACK: Duration = Duration::from_millis(400);

/// Half of all returns are sooner than this. In `make long` that is the two seconds that are promised; beside other tests it is five
/// times what is expected.
const USUAL_RETURN: Duration = Duration::from_secs(5);

/// What is done to the server.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fault {
    /// It is killed, and started again.
    Killed,
    /// It stops in its tracks, and goes on.
    Frozen,
    /// Every answer is late.
    Late,
    /// Every answer has another shape.
    WrongShape,
    /// Every answer has other numbers.
    WrongType,
    /// It fails each time.
    Failing,
    /// It has lost the models, and gets them back.
    Unloaded,
}

struct Trial {
    deadline: Duration,
    server: InferenceServer,
    heard: Heard,
    node: NodeProcess,
    cameras: [AbortHandle; 2],
    begun: Instant,
    returns: Vec<(Fault, Duration, Duration)>,
}

impl Drop for Trial {
    /// A test that fails shows the end of the node's log.
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.node.program.unread();
            let end = &log[log.len().saturating_sub(60)..];
            println!("the node's log:\n{}", end.join("\n"));
        }
    }
}

impl Trial {
    async fn start(make: Make) -> Option<Self> {
        let server = InferenceServer::start(make, &["nanodet", "nanodet_u8"]).await?;
        let lone = match make {
            Make::Triton => format!("http://{}", server.http),
            Make::MlServer | Make::KServe => format!("grpc://{}", server.grpc),
        };
        let config = format!(
            "[defaults]\nmax_fps = 5.0\nmax_age_ms = {max_age}\n\
             [models.{BACKED_MODEL}]\nbackend = \"kserve\"\nurl = \"grpc://{grpc}\"\nmodel = \"nanodet\"\n\
             manifest = \"nanodet_g_coco\"\ndeadline_ms = {deadline}\nfallback = \"{FALLBACK}\"\n\
             [models.{LONE_MODEL}]\nbackend = \"kserve\"\nurl = [\"{lone}\"]\nmodel = \"nanodet_u8\"\n\
             manifest = \"nanodet_g_coco\"\ndeadline_ms = {deadline}\n\
             [[cameras]]\ntwin_id = \"{BACKED}\"\nmodel = \"{BACKED_MODEL}\"\n\
             [[cameras]]\ntwin_id = \"{LONE}\"\nmodel = \"{LONE_MODEL}\"\n",
            grpc = server.grpc,
            max_age = MAX_AGE.as_millis(),
            deadline = deadline_of(make).as_millis(),
        );
        let url = start_hub(DevHubOptions::default()).await;
        let heard = Heard::listen(&url).await;
        let begun = Instant::now();
        let node = start_node(&url, &config).await;
        let clip = Arc::new(Clip::from_bytes(&first_frames(100)).unwrap());
        let cameras = [BACKED, LONE].map(|twin| start_camera(&url, twin, &clip));
        let trial = Self {
            deadline: deadline_of(make),
            server,
            heard,
            node,
            cameras,
            begun,
            returns: Vec::new(),
        };
        trial.own_results(begun).await;
        Some(trial)
    }

    /// Waits until both cameras have results of the server's again; how long that took for each.
    async fn own_results(&self, since: Instant) -> (Duration, Duration) {
        let backed = self.heard.until(BACKED, BACKED_MODEL, since).await;
        let lone = self.heard.until(LONE, LONE_MODEL, since).await;
        (backed, lone)
    }

    fn is_replaced(&self) -> bool {
        let labels = format!("model=\"{BACKED_MODEL}\"");
        self.node.metric("model_fallback", &labels) == 1.0
    }

    fn failures(&self, reason: &str) -> f64 {
        let labels = format!("reason=\"{reason}\"");
        self.node.metric("inference_failures_total", &labels)
    }

    /// What is on its way is little, whatever else happens: nothing is lost, and nothing is piled up.
    fn loses_nothing(&self) {
        for camera in [BACKED, LONE] {
            let open = open(&self.node, camera);
            // Each counter is read by itself, so that one may be ahead of another.
            assert!(
                open.iter().all(|left| (-2.0..=5.0).contains(left)),
                "{camera}: {open:?}"
            );
        }
    }

    async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) -> Duration {
        let begun = Instant::now();
        while !holds(self) {
            assert!(begun.elapsed() < DEADLINE, "this does not happen: {what}");
            self.loses_nothing();
            tokio::time::sleep(Duration::from_millis(30)).await;
        }
        begun.elapsed()
    }

    fn set_faults(&self, words: &str) {
        for model in ["nanodet", "nanodet_u8"] {
            self.server.set_fault(model, words);
        }
    }

    async fn suffers(&mut self, fault: Fault) {
        let reason = match fault {
            Fault::Killed | Fault::Unloaded => "unavailable",
            Fault::Frozen | Fault::Late => "deadline",
            Fault::WrongShape | Fault::WrongType | Fault::Failing => "answer",
        };
        let before = self.failures(reason);
        let begun = Instant::now();
        match fault {
            Fault::Killed => self.server.kill().await,
            Fault::Frozen => self.server.set_frozen(true),
            Fault::Late => {
                let late = 2 * self.deadline;
                self.set_faults(&format!("slow {}", late.as_secs_f64()));
            }
            Fault::WrongShape => self.set_faults("shape"),
            Fault::WrongType => self.set_faults("dtype"),
            Fault::Failing => self.set_faults("error"),
            Fault::Unloaded => {
                self.server.set_loaded("nanodet", false).await;
                self.server.set_loaded("nanodet_u8", false).await;
            }
        }
        self.heard.until(BACKED, FALLBACK, begun).await;
        let replaced = begun.elapsed();
        self.until("the metric says so", Self::is_replaced).await;
        // Whatever was under way has been answered or given up, and from then on the lone camera has nothing.
        tokio::time::sleep(self.deadline + SLACK).await;
        let dark = Instant::now();
        self.heard
            .until_number(3, BACKED, FALLBACK, Instant::now())
            .await;
        self.loses_nothing();
        let lone = self.heard.detections_of(LONE, dark);
        assert!(lone.is_empty(), "{fault:?}: {lone:?}");
        let failed = self.failures(reason) - before;
        println!(
            "{fault:?}: replaced after {replaced:.2?}, {failed} frames failed with `{reason}`"
        );
        if !matches!(fault, Fault::Killed | Fault::Unloaded) {
            assert!(failed > 0.0, "{fault:?}: no frame failed with `{reason}`");
        }

        let back = match fault {
            Fault::Killed => {
                self.server.launch();
                self.server.until_ready().await
            }
            Fault::Frozen => {
                self.server.set_frozen(false);
                Instant::now()
            }
            Fault::Late | Fault::WrongShape | Fault::WrongType | Fault::Failing => {
                self.set_faults("");
                Instant::now()
            }
            Fault::Unloaded => {
                self.server.set_loaded("nanodet", true).await;
                self.server.set_loaded("nanodet_u8", true).await;
                self.server.until_ready().await
            }
        };
        let (backed, lone) = self.own_results(back).await;
        println!("{fault:?}: back after {backed:.2?} and {lone:.2?}");
        self.returns.push((fault, backed, lone));
        self.until("the stand-in rests", |trial| !trial.is_replaced())
            .await;
    }

    /// An answer that is late now and then costs its frame, and nothing else.
    async fn is_late_now_and_then(&self) {
        let before = self.failures("deadline");
        let begun = Instant::now();
        self.set_faults("slow 0.6 6");
        self.until("some answers are late", |trial| {
            trial.failures("deadline") >= before + 3.0
        })
        .await;
        self.set_faults("");
        let results = self.heard.detections_of(LONE, begun).len();
        println!(
            "late now and then: {results} results in {:.2?}",
            begun.elapsed()
        );
        assert!(results > 0, "the others are there");
        self.own_results(Instant::now()).await;
    }

    async fn ends(mut self, usual_return: Duration) {
        for camera in &self.cameras {
            camera.abort();
        }
        ends_with_an_exact_ledger(&mut self.node, &[BACKED, LONE]).await;
        // No result was ever older than it may be, nor was one of the stand-in told as the server's.
        let ms = |limit: Duration| limit.as_secs_f64() * 1000.0;
        for camera in [BACKED, LONE] {
            let mut ages: Vec<f64> = Vec::new();
            for (_, event) in self.heard.detections_of(camera, self.begun) {
                let of = |value: &Value| value.as_f64().unwrap();
                let age = of(&event["timestamp"]) - of(&event["frame"]["receivedAt"]);
                let took = &event["latencyMs"];
                let waited = of(&took["receive"]) + of(&took["decode"]) + of(&took["wait"]);
                assert!(waited <= ms(MAX_AGE + SLACK), "{event}");
                if event["model"]["name"] != FALLBACK {
                    assert!(
                        of(&took["inference"]) <= ms(self.deadline + SLACK),
                        "{event}"
                    );
                }
                let model = &event["model"];
                assert_eq!(
                    model["sha256"].is_string(),
                    model["name"] == FALLBACK,
                    "{event}"
                );
                ages.push(age);
            }
            ages.sort_unstable_by(f64::total_cmp);
            println!(
                "{camera}: {} results, p50 {} ms and at most {} ms old",
                ages.len(),
                ages[ages.len() / 2],
                ages[ages.len() - 1]
            );
        }
        let mut returns: Vec<(Duration, Fault)> = Vec::new();
        for (fault, backed, lone) in &self.returns {
            returns.extend([(*backed, *fault), (*lone, *fault)]);
        }
        returns.sort_unstable_by_key(|(took, _)| *took);
        let (median, (worst, fault)) = (returns[returns.len() / 2].0, returns[returns.len() - 1]);
        println!(
            "own results were back after a median of {median:.2?} and at most {worst:.2?} ({fault:?}), of {}",
            returns.len()
        );
        assert!(median <= usual_return, "{returns:?}");
        assert!(returns[0].0 <= RETURN_LIMIT, "{returns:?}");
        assert!(worst <= WORST_RETURN, "{returns:?}");
    }
}

/// Does each of these to a server so many times. Half of all returns are sooner than `usual_return`.
async fn suffers(make: Make, faults: &[Fault], rounds: usize, usual_return: Duration) {
    let Some(mut trial) = Trial::start(make).await else {
        return;
    };
    for round in 0..rounds {
        println!("round {round}");
        for &fault in faults {
            trial.suffers(fault).await;
        }
        if make == Make::Triton {
            trial.is_late_now_and_then().await;
        }
    }
    trial.ends(usual_return).await;
}

const ALL: [Fault; 7] = [
    Fault::Killed,
    Fault::Frozen,
    Fault::Late,
    Fault::WrongShape,
    Fault::WrongType,
    Fault::Failing,
    Fault::Unloaded,
];

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_triton_in_trouble_makes_no_result_old_and_is_used_again_when_it_is_back() {
    let faults = [
        Fault::Killed,
        Fault::Frozen,
        Fault::Late,
        Fault::WrongShape,
        Fault::WrongType,
        Fault::Unloaded,
    ];
    suffers(Make::Triton, &faults, 1, USUAL_RETURN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn so_is_an_mlserver() {
    let faults = [Fault::Killed, Fault::Frozen, Fault::Unloaded];
    suffers(Make::MlServer, &faults, 1, USUAL_RETURN).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make long"]
async fn a_triton_is_in_trouble_again_and_again() {
    suffers(Make::Triton, &ALL, 20, RETURN_LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make long"]
async fn so_is_an_mlserver_again_and_again() {
    suffers(Make::MlServer, &ALL, 20, RETURN_LIMIT).await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "takes minutes: make long"]
async fn so_is_kserves_own_server() {
    suffers(Make::KServe, &ALL, 2, RETURN_LIMIT).await;
}
