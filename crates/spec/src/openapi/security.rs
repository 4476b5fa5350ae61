//! Rules of security schemes and of the requirements that name them.

use crate::{
    node::Node,
    openapi::{
        check::{Checker, Scope},
        shape::Version,
    },
    path::Path,
};

/// What a type of scheme needs, and what is only for it.
struct SchemeType {
    name: &'static str,
    required: &'static [&'static str],
    allowed: &'static [&'static str],
}

const SCHEME_TYPES: [SchemeType; 5] = [
    SchemeType { name: "apiKey", required: &["name", "in"], allowed: &[] },
    SchemeType { name: "http", required: &["scheme"], allowed: &["bearerFormat"] },
    SchemeType { name: "oauth2", required: &["flows"], allowed: &[] },
    SchemeType { name: "openIdConnect", required: &["openIdConnectUrl"], allowed: &[] },
    SchemeType { name: "mutualTLS", required: &[], allowed: &[] },
];

const SPECIFIC_FIELDS: [&str; 6] =
    ["name", "in", "scheme", "bearerFormat", "flows", "openIdConnectUrl"];

/// The URLs each flow needs.
const FLOWS: [(&str, &[&str]); 4] = [
    ("implicit", &["authorizationUrl"]),
    ("password", &["tokenUrl"]),
    ("clientCredentials", &["tokenUrl"]),
    ("authorizationCode", &["authorizationUrl", "tokenUrl"]),
];

impl<'t> Checker<'t> {
    pub(super) fn check_security_scheme(&mut self, node: Node<'t>, path: &Path<'_>) {
        let Some(kind) = node.get("type") else { return };
        let Some(text) = kind.as_str() else { return };
        let known = SCHEME_TYPES.iter().find(|one| one.name == text);
        let known = known.filter(|one| one.name != "mutualTLS" || self.version == Version::V31);
        let Some(scheme) = known else {
            return self.error("unknown-value", kind.start(), &path.key("type"), || {
                format!("{text:?} is not a type of security scheme in this version of OpenAPI")
            });
        };
        for field in scheme.required {
            if node.get(field).is_none() {
                self.error("missing-field", node.start(), path, || {
                    format!("a security scheme of type {text:?} needs the field \"{field}\"")
                });
            }
        }
        for field in SPECIFIC_FIELDS {
            let is_for_it = scheme.required.contains(&field) || scheme.allowed.contains(&field);
            if let Some(member) = node.member(field).filter(|_| !is_for_it) {
                self.warning("unused-field", member.key_start, &path.key(field), || {
                    format!("\"{field}\" has no meaning in a security scheme of type {text:?}")
                });
            }
        }
    }

    pub(super) fn check_flows(&mut self, node: Node<'t>, path: &Path<'_>) {
        for (name, urls) in FLOWS {
            let Some(flow) = node.get(name).filter(|flow| flow.is_object()) else { continue };
            let here = path.key(name);
            for url in ["authorizationUrl", "tokenUrl"] {
                let is_needed = urls.contains(&url);
                match flow.member(url) {
                    None if is_needed => self.error("missing-field", flow.start(), &here, || {
                        format!("the flow \"{name}\" needs the field \"{url}\"")
                    }),
                    Some(member) if !is_needed => {
                        self.warning("unused-field", member.key_start, &here.key(url), || {
                            format!("\"{url}\" has no meaning in the flow \"{name}\"")
                        });
                    }
                    _ => {}
                }
            }
        }
    }

    pub(super) fn check_requirement(&mut self, node: Node<'t>, path: &Path<'_>, scope: Scope<'t>) {
        let schemes = self.root.get("components").and_then(|node| node.get("securitySchemes"));
        for member in node.members() {
            let here = path.key(member.key);
            let Some(declared) = schemes.and_then(|schemes| schemes.get(member.key)) else {
                self.error("unknown-security-scheme", member.key_start, &here, || {
                    format!("components.securitySchemes has no {:?}", member.key)
                });
                continue;
            };
            let Some(scheme) = self.follow(declared, scope) else { continue };
            let kind = scheme.get("type").and_then(Node::as_str).unwrap_or_default();
            if kind == "oauth2" {
                self.check_scopes(member.value, scheme, &here);
            } else if self.version == Version::V30
                && matches!(kind, "apiKey" | "http")
                && member.value.items().len() > 0
            {
                self.error("scopes-not-empty", member.value.start(), &here, || {
                    format!("a security scheme of type {kind:?} takes an empty list")
                });
            }
        }
    }

    fn check_scopes(&mut self, list: Node<'t>, scheme: Node<'t>, path: &Path<'_>) {
        let Some(flows) = scheme.get("flows") else { return };
        if !self.spend(list.items().len()) {
            return;
        }
        for (index, item) in list.items().enumerate() {
            let Some(name) = item.as_str() else { continue };
            let mut scopes = flows.members().filter_map(|flow| flow.value.get("scopes"));
            if !scopes.any(|scopes| scopes.get(name).is_some()) {
                self.warning("unknown-scope", item.start(), &path.index(index), || {
                    format!("no flow of the security scheme has the scope {name:?}")
                });
            }
        }
    }
}
