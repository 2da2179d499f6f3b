//! What ONNX Runtime computes on. The names of the configuration come in, in the order of preference; [`Providers`] go out, which
//! build sessions. A provider that was asked for and cannot run is an error, so that nobody's models run on the CPU unnoticed.

use std::collections::BTreeMap;
use std::num::NonZeroUsize;
use std::thread::available_parallelism;

use ort::ep::{ExecutionProvider, ExecutionProviderDispatch};
use ort::session::Session;
use ort::session::builder::SessionBuilder;

use super::assignment;
use super::manifest::ModelError;
use super::runtime::Runtime;

/// A provider that the configuration may name.
struct Provider {
    /// Its name in the configuration, which is also the Cargo feature that builds it in.
    name: &'static str,
    /// What this program needs to use it; none if the program is built without it.
    built: Option<Built>,
    /// Where to get an ONNX Runtime that has it.
    library: &'static str,
    /// What it needs beside ONNX Runtime.
    needs: &'static str,
}

/// A provider that is built in.
struct Built {
    /// ONNX Runtime's name of it.
    onnx_name: &'static str,
    /// Asks the loaded library whether it has this provider.
    is_in_library: fn() -> ort::Result<bool>,
    /// Makes it, with so many threads where it computes on threads of its own.
    make: fn(threads: NonZeroUsize) -> ExecutionProviderDispatch,
}

impl Built {
    const fn new<E: ExecutionProvider>(
        make: fn(NonZeroUsize) -> ExecutionProviderDispatch,
    ) -> Self {
        Self {
            onnx_name: E::NAME,
            is_in_library: E::is_available,
            make,
        }
    }
}

/// A [`Built`] if the feature is on.
macro_rules! built {
    ($feature:literal, $provider:ident, $make:expr) => {{
        #[cfg(feature = $feature)]
        {
            Some(Built::new::<ort::ep::$provider>($make))
        }
        #[cfg(not(feature = $feature))]
        {
            None
        }
    }};
}

const CPU: &str = "cpu";

const PROVIDERS: &[Provider] = &[
    Provider {
        name: CPU,
        built: Some(Built::new::<ort::ep::CPU>(|_| {
            ort::ep::CPU::default().with_arena_allocator(true).build()
        })),
        library: "every ONNX Runtime has it",
        needs: "nothing",
    },
    Provider {
        name: "cuda",
        built: built!("cuda", CUDA, |_| ort::ep::CUDA::default().build()),
        library: "take the library of the package onnxruntime-gpu",
        needs: "a GPU of NVIDIA with its driver, and the CUDA and cuDNN that this ONNX Runtime is built for",
    },
    Provider {
        name: "tensorrt",
        built: built!("tensorrt", TensorRT, |_| ort::ep::TensorRT::default()
            .build()),
        library: "take the library of the package onnxruntime-gpu",
        needs: "a GPU of NVIDIA with its driver, and the TensorRT, CUDA and cuDNN that this ONNX Runtime is built for",
    },
    Provider {
        name: "openvino",
        built: built!("openvino", OpenVINO, |threads| {
            ort::ep::OpenVINO::default()
                .with_num_threads(threads.get())
                .build()
        }),
        library: "take the library of the package onnxruntime-openvino",
        needs: "the OpenVINO of that package, in the folder of its library",
    },
    Provider {
        name: "xnnpack",
        built: built!("xnnpack", XNNPACK, |threads| {
            ort::ep::XNNPACK::default()
                .with_intra_op_num_threads(threads)
                .build()
        }),
        library: "build ONNX Runtime with `--use_xnnpack`, since no package for Linux has it",
        needs: "nothing",
    },
    Provider {
        name: "coreml",
        built: built!("coreml", CoreML, |_| ort::ep::CoreML::default().build()),
        library: "take the library of the package onnxruntime for macOS",
        needs: "macOS",
    },
];

/// The providers that sessions are built with, the preferred first. There is at least one.
pub(super) struct Providers(Vec<&'static Provider>);

/// Why a session cannot be built.
pub(super) enum SessionError {
    /// A provider cannot run at all, or not this model.
    Provider(ModelError),
    /// ONNX Runtime does not take the model or the settings.
    Model(ort::Error),
}

impl<R> From<ort::Error<R>> for SessionError
where
    ort::Error: From<ort::Error<R>>,
{
    fn from(error: ort::Error<R>) -> Self {
        Self::Model(error.into())
    }
}

impl Providers {
    /// Looks up the providers that are asked for, `cpu` if none is, in this program and in the loaded library.
    ///
    /// # Errors
    /// If one of them is in neither, or could never run.
    pub(super) fn choose(asked: &[String], runtime: &Runtime) -> Result<Self, ModelError> {
        let library = runtime.library().display().to_string();
        choose(PROVIDERS, asked, &library).map(Self)
    }

    /// ONNX Runtime's name of the preferred provider. It runs what it can of a model, and those after it the rest.
    pub(super) fn preferred(&self) -> &'static str {
        self.0[0].onnx_name()
    }

    /// Builds a session of the model, and says which part of it the preferred provider has.
    ///
    /// # Errors
    /// If a provider does not start, if the preferred one takes nothing of the model, or if ONNX Runtime does not take the model.
    pub(super) fn session(
        &self,
        runtime: &Runtime,
        model: &[u8],
    ) -> Result<(Session, String), SessionError> {
        let mut builder = settings(runtime)?;
        let threads = NonZeroUsize::new(runtime.threads())
            .or_else(|| available_parallelism().ok())
            .unwrap_or(NonZeroUsize::MIN);
        for provider in &self.0 {
            let Some(built) = &provider.built else {
                continue;
            };
            let made = (built.make)(threads);
            made.register(&mut builder)
                .map_err(|error| provider.does_not_start(&error))?;
        }
        let preferred = self.0[0];
        let session = builder.commit_from_memory(model).map_err(|error| {
            if preferred.name != CPU && runs_on_cpu(runtime, model) {
                return preferred.does_not_start(&error);
            }
            SessionError::Model(error)
        })?;
        let operations = assignment::operations(&session)?;
        let share = share(&operations, preferred.onnx_name());
        match share {
            Some(share) => Ok((session, share)),
            None => Err(preferred.refuse(format!(
                "it can run no part of this model, so all of it would run on {}; name another provider, or `cpu` alone",
                names(&operations)
            ))),
        }
    }
}

impl Provider {
    fn onnx_name(&self) -> &'static str {
        self.built.as_ref().map_or("", |built| built.onnx_name)
    }

    fn is_in_library(&self) -> bool {
        let is_in_library = |built: &Built| (built.is_in_library)().unwrap_or(false);
        self.built.as_ref().is_some_and(is_in_library)
    }

    fn does_not_start(&self, error: &ort::Error) -> SessionError {
        self.refuse(self.no_start(&error.to_string()))
    }

    fn refuse(&self, reason: String) -> SessionError {
        SessionError::Provider(ModelError::Provider {
            asked: self.name.to_owned(),
            reason,
            available: available(PROVIDERS),
        })
    }

    /// `error` is ONNX Runtime's. It has the words of the dynamic loader if that does not find a library.
    fn no_start(&self, error: &str) -> String {
        format!(
            "ONNX Runtime cannot start it: {}; it needs {}",
            without_place(error),
            self.needs
        )
    }
}

/// Says how much of a model the provider of this name has, and who has the rest; none if it has nothing. A model without
/// operations is had whole.
fn share(operations: &BTreeMap<String, usize>, name: &str) -> Option<String> {
    let all: usize = operations.values().sum();
    let own = operations.get(name).copied().unwrap_or(0);
    if own == all {
        return Some(format!("all {all} operations"));
    }
    let mut others = operations.clone();
    others.remove(name);
    (own > 0).then(|| format!("{own} of {all} operations, the rest on {}", names(&others)))
}

fn names(operations: &BTreeMap<String, usize>) -> String {
    let names: Vec<&str> = operations.keys().map(String::as_str).collect();
    names.join(" and ")
}

/// Leaves out where in ONNX Runtime's own source an error arose.
fn without_place(error: &str) -> String {
    let (_, message) = error
        .split_once("[ONNXRuntimeError] : 1 : FAIL : ")
        .unwrap_or(("", error));
    message.trim().replace('\n', " ")
}

/// What all sessions have in common, whatever they run on.
fn settings(runtime: &Runtime) -> Result<SessionBuilder, SessionError> {
    Ok(Session::builder(runtime.environment())?
        // Within a run, threads spin while they wait for the next part, since to wake one takes as long as a part does. Between
        // runs they do not, since they would burn a core for nothing.
        .with_intra_op_spinning(true)?
        .with_config_entry("session.force_spinning_stop", "1")?
        .with_config_entry(assignment::RECORD.0, assignment::RECORD.1)?
        .with_intra_threads(runtime.threads())?
        .with_log_id("twinsight")?)
}

/// Tells a model that is not usable from a provider that is not: the latter's models run on the CPU.
fn runs_on_cpu(runtime: &Runtime, model: &[u8]) -> bool {
    settings(runtime).is_ok_and(|mut builder| builder.commit_from_memory(model).is_ok())
}

fn choose<'a>(
    providers: &'a [Provider],
    asked: &[String],
    library: &str,
) -> Result<Vec<&'a Provider>, ModelError> {
    let cpu = [CPU.to_owned()];
    let asked = if asked.is_empty() { &cpu } else { asked };
    let mut chosen: Vec<&Provider> = Vec::new();
    for name in asked {
        let refuse = |reason: String| ModelError::Provider {
            asked: name.clone(),
            reason,
            available: available(providers),
        };
        let provider = providers.iter().find(|provider| provider.name == name);
        let provider =
            provider.ok_or_else(|| refuse("no execution provider has that name".to_owned()))?;
        if chosen.iter().any(|chosen| chosen.name == name) {
            continue;
        }
        if provider.built.is_none() {
            return Err(refuse(format!(
                "this program is built without it; build it with `--features {name}`"
            )));
        }
        if !provider.is_in_library() {
            return Err(refuse(format!(
                "the ONNX Runtime at {library} is built without it; {}, and set `runtime.library`",
                provider.library
            )));
        }
        if chosen.iter().any(|chosen| chosen.name == CPU) {
            return Err(refuse(
                "`cpu` stands before it and runs every model whole; name it before `cpu`"
                    .to_owned(),
            ));
        }
        chosen.push(provider);
    }
    Ok(chosen)
}

/// Lists the providers that are both in this program and in the loaded library.
fn available(providers: &[Provider]) -> String {
    let available = providers.iter().filter(|provider| provider.is_in_library());
    let names: Vec<&str> = available.map(|provider| provider.name).collect();
    names.join(", ")
}

#[cfg(test)]
mod tests {
    use super::*;

    /// All providers are built in, and the library has the first `in_library` of them.
    fn all(in_library: usize) -> Vec<Provider> {
        let with = |(place, provider): (usize, &Provider)| Provider {
            built: Some(Built {
                onnx_name: provider.name,
                is_in_library: if place < in_library {
                    || Ok(true)
                } else {
                    || Ok(false)
                },
                make: |_| ort::ep::CPU::default().build(),
            }),
            ..*provider
        };
        PROVIDERS.iter().enumerate().map(with).collect()
    }

    /// Providers as in a program that is built without features.
    fn plain() -> Vec<Provider> {
        let mut providers = all(1);
        for provider in &mut providers[1..] {
            provider.built = None;
        }
        providers
    }

    fn chosen(providers: &[Provider], asked: &[&str]) -> Result<Vec<&'static str>, String> {
        let asked: Vec<String> = asked.iter().map(|&name| name.to_owned()).collect();
        choose(providers, &asked, "lib/libonnxruntime.so")
            .map(|chosen| chosen.iter().map(|provider| provider.name).collect())
            .map_err(|error| error.to_string())
    }

    #[test]
    fn the_order_of_the_configuration_is_kept() {
        assert_eq!(chosen(&plain(), &[]), Ok(vec!["cpu"]));
        assert_eq!(chosen(&plain(), &["cpu", "cpu"]), Ok(vec!["cpu"]));
        let asked = ["tensorrt", "cuda", "cpu"];
        assert_eq!(chosen(&all(6), &asked), Ok(asked.to_vec()));
        assert_eq!(chosen(&all(6), &["cuda"]), Ok(vec!["cuda"]));
    }

    #[test]
    fn what_is_not_built_in_names_its_feature() {
        for name in ["cuda", "tensorrt", "openvino", "xnnpack", "coreml"] {
            assert_eq!(
                chosen(&plain(), &[name, "cpu"]).unwrap_err(),
                format!(
                    "execution provider `{name}` is not available: this program is built without it; build it with `--features {name}`; available here: cpu"
                )
            );
        }
    }

    #[test]
    fn what_the_library_lacks_names_the_package_that_has_it() {
        for (name, package) in [
            ("cuda", "onnxruntime-gpu"),
            ("tensorrt", "onnxruntime-gpu"),
            ("openvino", "onnxruntime-openvino"),
            ("xnnpack", "--use_xnnpack"),
            ("coreml", "macOS"),
        ] {
            let error = chosen(&all(1), &[name, "cpu"]).unwrap_err();
            assert!(
                error.starts_with(&format!(
                    "execution provider `{name}` is not available: the ONNX Runtime at lib/libonnxruntime.so is built without it; "
                )) && error.contains(package)
                    && error.ends_with("; available here: cpu"),
                "{error}"
            );
        }
    }

    #[test]
    fn what_does_not_start_is_said_in_the_words_of_the_loader() {
        // This is what ONNX Runtime 1.31.1 of onnxruntime-gpu says on a machine without CUDA.
        let error = "/onnxruntime_src/onnxruntime/core/session/provider_bridge_ort.cc:2043 onnxruntime::Provider& onnxruntime::ProviderLibrary::Get() [ONNXRuntimeError] : 1 : FAIL : Failed to load library /opt/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: No such file or directory\n";
        let provider = PROVIDERS.iter().find(|provider| provider.name == "cuda");
        assert_eq!(
            provider.unwrap().no_start(error),
            "ONNX Runtime cannot start it: Failed to load library /opt/libonnxruntime_providers_cuda.so with error: libcublasLt.so.13: cannot open shared object file: No such file or directory; it needs a GPU of NVIDIA with its driver, and the CUDA and cuDNN that this ONNX Runtime is built for"
        );
    }

    #[test]
    fn the_share_of_the_preferred_provider_is_said() {
        let operations = |counts: &[(&str, usize)]| {
            let counts = counts.iter().map(|&(name, count)| (name.to_owned(), count));
            counts.collect::<BTreeMap<_, _>>()
        };
        let of = |counts: &[(&str, usize)]| share(&operations(counts), "CUDA");
        assert_eq!(of(&[("CUDA", 3)]).unwrap(), "all 3 operations");
        assert_eq!(
            of(&[("CUDA", 3), ("CPU", 1)]).unwrap(),
            "3 of 4 operations, the rest on CPU"
        );
        assert_eq!(of(&[("CPU", 4)]), None);
    }

    #[test]
    fn what_could_never_run_is_refused() {
        assert_eq!(
            chosen(&all(2), &["cpu", "cuda"]).unwrap_err(),
            "execution provider `cuda` is not available: `cpu` stands before it and runs every model whole; name it before `cpu`; available here: cpu, cuda"
        );
        assert_eq!(
            chosen(&plain(), &["gpu"]).unwrap_err(),
            "execution provider `gpu` is not available: no execution provider has that name; available here: cpu"
        );
    }
}
