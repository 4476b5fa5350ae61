//! Style sheet, script and icon: part of the binary, under names that change with their content.

use axum::{body::Body, response::Response};
use http::header;

/// All files that pages refer to.
#[derive(Debug)]
pub(crate) struct Assets {
    pub(crate) style: Asset,
    pub(crate) script: Asset,
    pub(crate) icon: Asset,
}

/// One file.
#[derive(Debug)]
pub(crate) struct Asset {
    /// Where it is served.
    pub(crate) path: String,
    media_type: &'static str,
    content: &'static [u8],
}

impl Assets {
    pub(crate) fn embedded() -> Self {
        Self {
            style: Asset::new(
                "portal",
                "css",
                "text/css; charset=utf-8",
                include_bytes!("../assets/portal.css"),
            ),
            script: Asset::new(
                "portal",
                "js",
                "text/javascript; charset=utf-8",
                include_bytes!("../assets/portal.js"),
            ),
            icon: Asset::new("icon", "svg", "image/svg+xml", include_bytes!("../assets/icon.svg")),
        }
    }

    pub(crate) fn find(&self, path: &str) -> Option<&Asset> {
        [&self.style, &self.script, &self.icon].into_iter().find(|asset| asset.path == path)
    }
}

impl Asset {
    fn new(name: &str, kind: &str, media_type: &'static str, content: &'static [u8]) -> Self {
        let hash = market::sha256_hex(&[content]);
        let path = format!("/assets/{name}-{}.{kind}", hash.get(..12).unwrap_or_default());
        Self { path, media_type, content }
    }

    /// It never changes under its name.
    pub(crate) fn answer(&self) -> Response {
        let mut response = Response::new(Body::from(self.content));
        let headers = response.headers_mut();
        crate::serve::append(headers, header::CONTENT_TYPE, self.media_type);
        crate::serve::append(headers, header::CACHE_CONTROL, "public, max-age=31536000, immutable");
        crate::serve::append(headers, header::X_CONTENT_TYPE_OPTIONS, "nosniff");
        response
    }
}
