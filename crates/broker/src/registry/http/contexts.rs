//! `/contexts/{context}/...`: the same routes within a context. Clients put it into the address of the registry.
//!
//! A request is rewritten to the route that names the context in the subject; nothing behind this file knows the other
//! form.

use axum::extract::Request;
use axum::http::Uri;
use axum::http::uri::PathAndQuery;
use axum::middleware::Next;
use axum::response::{IntoResponse, Response};

use crate::registry::error::ApiError;

pub(super) async fn in_context(mut request: Request, next: Next) -> Response {
    let uri = request.uri();
    if uri.path().starts_with("/contexts/") {
        let query = uri.query().unwrap_or_default();
        let plain = plain(uri.path(), query).and_then(|plain| plain.parse::<PathAndQuery>().ok());
        let Some(plain) = plain else { return ApiError::not_found().into_response() };
        *request.uri_mut() = Uri::from(plain);
    }
    next.run(request).await
}

/// Path and query that mean the same without a context in front; `None` when there is no such thing.
fn plain(path: &str, query: &str) -> Option<String> {
    let rest = path.strip_prefix("/contexts/")?;
    let (context, rest) = rest.split_once('/')?;
    let context = context.replace("%3A", ":").replace("%3a", ":");
    let name = context.trim_matches(':');
    if !name.starts_with('.') {
        return None;
    }
    let context = if name == "." { ":.:".to_owned() } else { format!(":{name}:") };
    let with_query =
        |path: &str, query: &str| if query.is_empty() { path.to_owned() } else { format!("{path}?{query}") };
    let mut parts = rest.splitn(2, '/');
    let (first, more) = (parts.next()?, parts.next());
    match (first, more) {
        // lists
        ("subjects" | "schemas", None | Some("")) => {
            let wanted = if query.contains("subjectPrefix=") {
                query.replacen("subjectPrefix=", &format!("subjectPrefix={context}"), 1)
            } else if query.is_empty() {
                format!("subjectPrefix={context}")
            } else {
                format!("{query}&subjectPrefix={context}")
            };
            Some(with_query(&format!("/{first}"), &wanted))
        }
        // the settings of a context are those of its subject without a name
        ("config" | "mode", None) if name == "." => Some(with_query(&format!("/{first}"), query)),
        ("config" | "mode", None) => Some(with_query(&format!("/{first}/{context}"), query)),
        ("subjects" | "config" | "mode", Some(more)) => Some(with_query(&format!("/{first}/{context}{more}"), query)),
        ("compatibility", Some(more)) => {
            let more = more.strip_prefix("subjects/")?;
            Some(with_query(&format!("/compatibility/subjects/{context}{more}"), query))
        }
        // all contexts share one row of ids
        _ => Some(with_query(&format!("/{rest}"), query)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    // STR-20
    #[test]
    fn a_context_moves_into_the_subject() {
        for (path, query, wanted) in [
            ("/contexts/:.site:/subjects/a/versions", "", "/subjects/:.site:a/versions"),
            ("/contexts/.site/subjects/a/versions/1", "deleted=true", "/subjects/:.site:a/versions/1?deleted=true"),
            ("/contexts/%3A.site%3A/config/a", "", "/config/:.site:a"),
            ("/contexts/:.site:/mode", "", "/mode/:.site:"),
            ("/contexts/:.:/config", "", "/config"),
            ("/contexts/:.site:/subjects", "", "/subjects?subjectPrefix=:.site:"),
            ("/contexts/:.site:/subjects", "deleted=true", "/subjects?deleted=true&subjectPrefix=:.site:"),
            ("/contexts/:.site:/schemas", "subjectPrefix=a", "/schemas?subjectPrefix=:.site:a"),
            ("/contexts/:.site:/schemas/ids/7", "", "/schemas/ids/7"),
            (
                "/contexts/:.site:/compatibility/subjects/a/versions/latest",
                "verbose=true",
                "/compatibility/subjects/:.site:a/versions/latest?verbose=true",
            ),
        ] {
            assert_eq!(plain(path, query).as_deref(), Some(wanted), "{path}?{query}");
        }
        for path in ["/contexts/", "/contexts/site/subjects", "/contexts/:.site:", "/contexts/.site/compatibility/a"] {
            assert_eq!(plain(path, ""), None, "{path}");
        }
    }
}
