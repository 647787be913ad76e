//! Which route of an HTTP API a request takes, as API Gateway chooses it: a path that matches in full before a greedy
//! one, and at each segment a text before a variable before the greedy rest; then the method itself before `ANY`.

use std::cmp::Reverse;

/// The routes of an API, each leading to a `T`.
#[derive(Debug)]
pub struct Routes<T> {
    routes: Vec<Route<T>>,
}

#[derive(Debug)]
struct Route<T> {
    method: Option<String>,
    segments: Vec<Segment>,
    /// As the template writes it.
    path: String,
    target: T,
}

/// Ordered from the most to the least specific.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Segment {
    Text(String),
    Variable,
    Greedy,
}

impl<T> Routes<T> {
    /// Routes from method (`None` for any), path and target.
    #[must_use]
    pub fn new(routes: impl IntoIterator<Item = (Option<String>, String, T)>) -> Self {
        let route = |(method, path, target): (Option<String>, String, T)| Route {
            method,
            segments: segments(&path).map(segment).collect(),
            path,
            target,
        };
        Self { routes: routes.into_iter().map(route).collect() }
    }

    /// The target of the route that a request with this decoded path takes, with the route's own path.
    #[must_use]
    pub fn find(&self, method: &str, path: &str) -> Option<(&T, &str)> {
        let best = self.matching(method, path).min_by_key(|route| route.rank())?;
        Some((&best.target, &best.path))
    }

    fn matching(&self, method: &str, path: &str) -> impl Iterator<Item = &Route<T>> {
        let takes = move |route: &&Route<T>| route.method.as_deref().is_none_or(|known| known == method);
        self.routes.iter().filter(takes).filter(move |route| route.matches(path))
    }
}

impl<T> Route<T> {
    fn matches(&self, path: &str) -> bool {
        let mut given = segments(path);
        for segment in &self.segments {
            match (segment, given.next()) {
                (Segment::Text(text), Some(given)) if text == given => {}
                (Segment::Variable, Some(given)) if !given.is_empty() => {}
                // The rest must be something: `/p/{proxy+}` matches neither `/p` nor `/p/`.
                (Segment::Greedy, Some(given_first)) => return !given_first.is_empty() || given.next().is_some(),
                _ => return false,
            }
        }
        given.next().is_none()
    }

    fn rank(&self) -> (bool, &[Segment], Reverse<bool>) {
        let is_greedy = self.segments.last() == Some(&Segment::Greedy);
        (is_greedy, &self.segments, Reverse(self.method.is_some()))
    }
}

fn segments(path: &str) -> impl Iterator<Item = &str> {
    path.strip_prefix('/').unwrap_or(path).split('/')
}

fn segment(text: &str) -> Segment {
    match text.strip_prefix('{').and_then(|text| text.strip_suffix('}')) {
        Some(name) if name.ends_with('+') => Segment::Greedy,
        Some(_) => Segment::Variable,
        None => Segment::Text(text.to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeMap;

    use super::*;
    use crate::registry::SURFACES;
    use crate::template::{Source, Template};

    fn routes(list: &[(&str, &str)]) -> Routes<String> {
        Routes::new(list.iter().map(|(method, path)| {
            let only = (*method != "ANY").then(|| (*method).to_owned());
            (only, (*path).to_owned(), format!("{method} {path}"))
        }))
    }

    #[test]
    fn the_most_specific_route_wins() {
        let routes = routes(&[
            ("GET", "/pets/dog/1"),
            ("GET", "/pets/dog/{id}"),
            ("GET", "/pets/{proxy+}"),
            ("ANY", "/{proxy+}"),
            ("ANY", "/pets/dog/{id}"),
            ("ANY", "/{one}"),
        ]);
        let table = [
            ("GET", "/pets/dog/1", Some("GET /pets/dog/1")),
            ("POST", "/pets/dog/1", Some("ANY /pets/dog/{id}")),
            ("GET", "/pets/dog/2", Some("GET /pets/dog/{id}")),
            ("GET", "/pets/cat/1", Some("GET /pets/{proxy+}")),
            ("GET", "/pets/dog/1/toys", Some("GET /pets/{proxy+}")),
            ("GET", "/pets", Some("ANY /{one}")),
            ("POST", "/test/5", Some("ANY /{proxy+}")),
            ("GET", "/pets/", Some("ANY /{proxy+}")),
            ("GET", "/", None),
        ];
        for (method, path, expected) in table {
            assert_eq!(routes.find(method, path).map(|(target, _)| target.as_str()), expected, "{method} {path}");
        }
    }

    #[test]
    fn a_greedy_route_does_not_match_its_own_prefix() {
        let routes = routes(&[("ANY", "/p/{proxy+}")]);
        assert!(routes.find("GET", "/p").is_none() && routes.find("GET", "/p/").is_none());
        assert!(routes.find("GET", "/p/a").is_some() && routes.find("GET", "/p/a/b/").is_some());
        assert!(routes.find("GET", "/p//").is_some());
    }

    fn of_the_template() -> Routes<String> {
        let functions = Template::of_this_build().unwrap().functions;
        Routes::new(functions.into_iter().flat_map(|function| {
            function.sources.into_iter().filter_map(move |source| match source {
                Source::Http { method, path, .. } => Some((method, path, function.binary.clone())),
                _ => None,
            })
        }))
    }

    /// API Gateway's words leave open whether `/a/{b}/c` or `/a/x/{proxy+}` is more specific for `/a/x/c`; so no row may
    /// depend on it.
    #[test]
    fn every_row_leads_to_its_own_function_however_the_rule_is_read() {
        let routes = of_the_template();
        let mut rows = 0;
        for (surface, group) in
            SURFACES.iter().flat_map(|surface| surface.groups.iter().map(move |group| (surface, group)))
        {
            for row in (group.rows)() {
                // A value that is no segment of any route, and one in which a decoded `/` splits the last parameter.
                let plain = fill(row.op.path, "5k3v");
                let binary = format!("{}-{}", surface.name, group.name);
                let found = routes.find(row.op.method, &plain).map(|(binary, _)| binary.as_str());
                assert_eq!(found, Some(binary.as_str()), "{} {plain}", row.op.method);
                let by_segment = routes.matching(row.op.method, &plain).min_by_key(|route| &route.segments).unwrap();
                assert_eq!(by_segment.target, binary, "{} {plain}", row.op.method);
                rows += 1;
            }
        }
        assert!(rows > 40);
    }

    fn fill(path: &str, value: &str) -> String {
        let fill = |segment: &str| if segment.starts_with('{') { value.to_owned() } else { segment.to_owned() };
        path.split('/').map(fill).collect::<Vec<_>>().join("/")
    }

    #[test]
    fn no_two_routes_are_the_same() {
        let mut seen = BTreeMap::new();
        for route in &of_the_template().routes {
            let name = |segment: &Segment| match segment {
                Segment::Text(text) => text.clone(),
                Segment::Variable => "{}".into(),
                Segment::Greedy => "{+}".into(),
            };
            let shape: Vec<String> = route.segments.iter().map(name).collect();
            let before = seen.insert((route.method.clone(), shape), route.target.clone());
            assert_eq!(before, None, "{}", route.path);
        }
    }

    #[test]
    fn the_sample_requests_lead_to_their_functions() {
        let (routes, directory) = (of_the_template(), concat!(env!("CARGO_MANIFEST_DIR"), "/../../events"));
        for function in Template::of_this_build().unwrap().functions {
            let text = std::fs::read_to_string(format!("{directory}/{}.json", function.binary)).unwrap();
            let event: serde_json::Value = serde_json::from_str(&text).unwrap();
            let Some(Source::Http { streams, .. }) = function.sources.first() else { continue };
            // A REST API writes its events otherwise than an HTTP API.
            let (method, path) = match streams {
                true => (&event["httpMethod"], &event["path"]),
                false => (&event["requestContext"]["http"]["method"], &event["rawPath"]),
            };
            let (binary, route) = routes.find(method.as_str().unwrap(), path.as_str().unwrap()).unwrap();
            assert_eq!(*binary, function.binary);
            match streams {
                true => assert_eq!(event["resource"], route),
                false => assert_eq!(event["routeKey"], format!("ANY {route}")),
            }
        }
    }
}
