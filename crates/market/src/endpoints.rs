//! Where versions are called.

use authz::Action;
use model::{ApiId, Route, VersionId};

use crate::{Market, MarketError, Request, apis, viewer};
use store::Viewer;

/// Where a version is called.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct Endpoint {
    /// The version.
    pub version: VersionId,
    /// What the paths of its operations are appended to, without a slash at its end.
    pub url: String,
    /// The same at the gateway itself, for whoever must not follow a name that an owner chose; with `host` in its `Host`.
    pub gateway_url: String,
    /// The host that the route is bound to.
    pub host: Option<String>,
}

impl Market {
    /// Where the versions of an API are called, for everybody who may see the API.
    pub async fn list_endpoints(
        &self,
        request: &Request,
        api: ApiId,
    ) -> Result<Vec<Endpoint>, MarketError> {
        self.require(request, Action::ReadApi).await?;
        let mut tx = self.db.read(viewer(&request.caller)).await?;
        let api = apis::find_visible(&mut tx, request, api).await?;
        // The addresses of a deployment are for everybody who sees the API; its targets are not.
        tx.view_as(Viewer::Installation).await?;
        let found = store::deployment::list_of_api(&mut tx, api.id).await?;
        let endpoints = found.iter().map(|deployment| Endpoint {
            version: deployment.version,
            url: url(&self.settings.gateway_url, &deployment.route),
            gateway_url: at(&self.settings.gateway_url, &deployment.route),
            host: deployment.route.host().map(ToOwned::to_owned),
        });
        Ok(endpoints.collect())
    }
}

/// The gateway's address with the route's prefix.
fn at(gateway: &str, route: &Route) -> String {
    let prefix = route.path_prefix().trim_end_matches('/');
    format!("{}{prefix}", gateway.trim_end_matches('/'))
}

/// The gateway's address, with the route's host when it is bound to one, and its prefix.
fn url(gateway: &str, route: &Route) -> String {
    let gateway = gateway.trim_end_matches('/');
    let base = match (route.host(), gateway.split_once("://")) {
        (Some(host), Some((scheme, authority))) => {
            let port = authority.rsplit_once(':').map(|(_, port)| format!(":{port}"));
            format!("{scheme}://{host}{}", port.unwrap_or_default())
        }
        _ => gateway.to_owned(),
    };
    format!("{base}{}", route.path_prefix().trim_end_matches('/'))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_route_with_a_host_is_called_there() {
        let route = |host, prefix| Route::new(host, prefix, false).expect("a good route");
        assert_eq!(
            url("https://gw.example:8443/", &route(None, "/lab")),
            "https://gw.example:8443/lab"
        );
        assert_eq!(url("https://gw.example", &route(None, "/")), "https://gw.example");
        assert_eq!(
            url("http://gw.example:8080", &route(Some("lab.example"), "/")),
            "http://lab.example:8080"
        );
    }
}
