//! Which profiles, captures, pages, rates and metrics the port offers. A registry is a cheap handle; servers and profilers
//! share one.

use std::sync::Arc;

use parking_lot::{Mutex, RwLock};
use prometheus_client::collector::Collector;
use thiserror::Error;

use super::{Capture, NamedProfile, Page, Rate};
use crate::metrics::Losses;

/// Names under `/debug/pprof/` that the port itself answers, so nothing may hide behind them.
const RESERVED: [&str; 2] = ["cmdline", "symbol"];

/// Where profiles and captures have their names.
const FOLDER: &str = "/debug/pprof/";

/// Why something was not registered.
#[derive(Debug, Error, PartialEq, Eq)]
#[non_exhaustive]
pub enum RegisterError {
    /// Empty, with a slash, or the name of a built-in page.
    #[error("{0:?} cannot be the name of a profile")]
    BadName(String),
    /// No absolute path, or that of the index.
    #[error("{0:?} cannot be the path of a page: it begins with a slash, and is not /debug/pprof itself")]
    BadPath(String),
    /// There is one of that name.
    #[error("a profile named {0:?} is registered already")]
    Duplicate(String),
}

/// What can be asked for.
///
/// ```
/// use greenprof_profiler::registry;
///
/// let registry = registry();
/// let same = registry.clone();
/// assert!(same.unregister("threadcreate"), "not wanted here");
/// assert!(registry.get("threadcreate").is_none());
/// assert!(registry.capture("profile").is_some() && registry.page("/metrics").is_some());
/// ```
#[derive(Clone)]
pub struct Registry {
    inner: Arc<RwLock<Inner>>,
    /// Protects the list of collectors; held while they are asked, which is why they must not register others.
    metrics: Arc<Mutex<prometheus_client::registry::Registry>>,
    losses: Losses,
}

impl Default for Registry {
    fn default() -> Self {
        let losses = Losses::default();
        let mut metrics = prometheus_client::registry::Registry::default();
        metrics.register_collector(Box::new(losses.clone()));
        Self { inner: Arc::default(), metrics: Arc::new(Mutex::new(metrics)), losses }
    }
}

/// Gives profiles that come and go.
pub(crate) type Source = fn() -> Vec<Arc<dyn NamedProfile>>;

/// Protected by the lock: only the lists. It is never held while one of their members is asked for anything.
#[derive(Default)]
struct Inner {
    profiles: Vec<Arc<dyn NamedProfile>>,
    /// What gives further profiles whenever it is asked.
    sources: Vec<Source>,
    captures: Vec<Arc<dyn Capture>>,
    pages: Vec<Arc<dyn Page>>,
    rates: Vec<Arc<dyn Rate>>,
}

impl Inner {
    /// Whether a profile or capture may have this name; they share their paths.
    fn admit(&self, name: &str) -> Result<(), RegisterError> {
        if name.is_empty() || name.contains('/') || RESERVED.contains(&name) {
            return Err(RegisterError::BadName(name.to_owned()));
        }
        let taken = self.profiles.iter().any(|known| known.name() == name)
            || self.captures.iter().any(|known| known.name() == name)
            || self.pages.iter().any(|known| known.path().strip_prefix(FOLDER) == Some(name));
        if taken { Err(RegisterError::Duplicate(name.to_owned())) } else { Ok(()) }
    }
}

impl Registry {
    /// A registry without anything.
    pub fn new() -> Self {
        Self::default()
    }

    /// Adds a profile.
    pub fn register(&self, profile: Arc<dyn NamedProfile>) -> Result<(), RegisterError> {
        let mut inner = self.inner.write();
        inner.admit(profile.name())?;
        inner.profiles.push(profile);
        Ok(())
    }

    /// Adds what is asked for further profiles each time. Those that are registered go before those of the same name.
    pub(crate) fn register_source(&self, source: Source) {
        self.inner.write().sources.push(source);
    }

    /// Takes a profile out; whether there was one.
    pub fn unregister(&self, name: &str) -> bool {
        let mut inner = self.inner.write();
        let before = inner.profiles.len();
        inner.profiles.retain(|profile| profile.name() != name);
        inner.profiles.len() < before
    }

    /// Adds a kind of capture.
    pub fn register_capture(&self, capture: Arc<dyn Capture>) -> Result<(), RegisterError> {
        let mut inner = self.inner.write();
        inner.admit(capture.name())?;
        inner.captures.push(capture);
        Ok(())
    }

    /// Adds a page.
    pub fn register_page(&self, page: Arc<dyn Page>) -> Result<(), RegisterError> {
        let path = page.path().to_owned();
        if !path.starts_with('/') || path == "/" || path == "/debug/pprof" || path == FOLDER {
            return Err(RegisterError::BadPath(path));
        }
        let mut inner = self.inner.write();
        // Names of profiles have no slash, so deeper paths are free.
        if let Some(name) = path.strip_prefix(FOLDER).filter(|rest| !rest.contains('/')) {
            inner.admit(name)?;
        }
        if inner.pages.iter().any(|known| known.path() == path) {
            return Err(RegisterError::Duplicate(path));
        }
        inner.pages.push(page);
        Ok(())
    }

    /// Adds a rate.
    pub fn register_rate(&self, rate: Arc<dyn Rate>) -> Result<(), RegisterError> {
        let name = rate.name().to_owned();
        let mut inner = self.inner.write();
        if inner.rates.iter().any(|known| known.name() == name) {
            return Err(RegisterError::Duplicate(name));
        }
        inner.rates.push(rate);
        Ok(())
    }

    /// Adds what is asked whenever somebody reads `/metrics`. It must be cheap, and must not register anything.
    pub fn register_metrics(&self, collector: Box<dyn Collector>) {
        self.metrics.lock().register_collector(collector);
    }

    /// Adds a counter of samples that a profile has lost, as `greenprof_profile_samples_lost_total` with the label
    /// `profile`. It must be cheap and only grow.
    pub fn register_lost(&self, profile: &'static str, lost: fn() -> u64) {
        self.losses.add(profile, lost);
    }

    /// The profile of that name.
    pub fn get(&self, name: &str) -> Option<Arc<dyn NamedProfile>> {
        let (registered, sources) = {
            let inner = self.inner.read();
            let registered = inner.profiles.iter().find(|profile| profile.name() == name).cloned();
            (registered, inner.sources.clone())
        };
        registered.or_else(|| sources.iter().flat_map(|source| source()).find(|profile| profile.name() == name))
    }

    /// The capture of that name.
    pub fn capture(&self, name: &str) -> Option<Arc<dyn Capture>> {
        self.inner.read().captures.iter().find(|capture| capture.name() == name).cloned()
    }

    /// The page at that path.
    pub fn page(&self, path: &str) -> Option<Arc<dyn Page>> {
        self.inner.read().pages.iter().find(|page| page.path() == path).cloned()
    }

    /// All profiles, by name.
    pub fn profiles(&self) -> Vec<Arc<dyn NamedProfile>> {
        let (mut profiles, sources) = {
            let inner = self.inner.read();
            (inner.profiles.clone(), inner.sources.clone())
        };
        profiles.extend(sources.iter().flat_map(|source| source()));
        // A stable sort: of two with one name the registered one is first.
        profiles.sort_by(|a, b| a.name().cmp(b.name()));
        profiles.dedup_by(|a, b| a.name() == b.name());
        profiles
    }

    /// All captures, by name.
    pub fn captures(&self) -> Vec<Arc<dyn Capture>> {
        let mut captures = self.inner.read().captures.clone();
        captures.sort_by(|a, b| a.name().cmp(b.name()));
        captures
    }

    /// All pages, by path.
    pub fn pages(&self) -> Vec<Arc<dyn Page>> {
        let mut pages = self.inner.read().pages.clone();
        pages.sort_by(|a, b| a.path().cmp(b.path()));
        pages
    }

    /// All rates, by name.
    pub fn rates(&self) -> Vec<Arc<dyn Rate>> {
        let mut rates = self.inner.read().rates.clone();
        rates.sort_by(|a, b| a.name().cmp(b.name()));
        rates
    }

    /// What all collectors say, in OpenMetrics text.
    pub(crate) fn metrics(&self) -> Result<String, std::fmt::Error> {
        let mut text = String::new();
        prometheus_client::encoding::text::encode(&mut text, &self.metrics.lock())?;
        Ok(text)
    }
}

impl std::fmt::Debug for Registry {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let names = |list: Vec<String>| list.join(" ");
        f.debug_struct("Registry")
            .field("profiles", &names(self.profiles().iter().map(|it| it.name().to_owned()).collect()))
            .field("captures", &names(self.captures().iter().map(|it| it.name().to_owned()).collect()))
            .field("pages", &names(self.pages().iter().map(|it| it.path().to_owned()).collect()))
            .field("rates", &names(self.rates().iter().map(|it| it.name().to_owned()).collect()))
            .finish()
    }
}
