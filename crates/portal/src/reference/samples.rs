//! The same call in five languages.

/// A call to be shown.
pub(crate) struct Call<'call> {
    pub(crate) method: &'call str,
    pub(crate) url: &'call str,
    /// What stands for the key: its beginning, or a placeholder.
    pub(crate) key: &'call str,
    /// Media type and text.
    pub(crate) body: Option<(&'call str, &'call str)>,
}

/// A call in one language.
pub(crate) struct Sample {
    pub(crate) language: &'static str,
    pub(crate) code: String,
}

/// A call in all languages.
pub(crate) fn all(call: &Call<'_>) -> [Sample; 5] {
    [
        Sample { language: "curl", code: curl(call) },
        Sample { language: "Python", code: python(call) },
        Sample { language: "JavaScript", code: javascript(call) },
        Sample { language: "Java", code: java(call) },
        Sample { language: "C#", code: csharp(call) },
    ]
}

fn curl(call: &Call<'_>) -> String {
    let mut code = String::from("curl");
    if call.method != "GET" {
        code.push_str(&format!(" -X {}", call.method));
    }
    code.push_str(&format!(
        " {} \\\n  -H {}",
        shell(call.url),
        shell(&format!("X-API-Key: {}", call.key))
    ));
    if let Some((media_type, body)) = call.body {
        let kind = shell(&format!("Content-Type: {media_type}"));
        code.push_str(&format!(" \\\n  -H {kind} \\\n  -d {}", shell(body)));
    }
    code
}

fn python(call: &Call<'_>) -> String {
    let body =
        call.body.map_or_else(String::new, |(_, body)| format!("\n    data={},", quoted(body)));
    let kind = call
        .body
        .map_or_else(String::new, |(kind, _)| format!(", \"Content-Type\": {}", quoted(kind)));
    format!(
        "import requests\n\nanswer = requests.request(\n    {}, {},\n    headers={{\"X-API-Key\": {}{kind}}},{body}\n    \
         timeout=10,\n)\nanswer.raise_for_status()\nprint(answer.text)",
        quoted(call.method),
        quoted(call.url),
        quoted(call.key),
    )
}

fn javascript(call: &Call<'_>) -> String {
    let kind = call
        .body
        .map_or_else(String::new, |(kind, _)| format!(", \"Content-Type\": {}", quoted(kind)));
    let body =
        call.body.map_or_else(String::new, |(_, body)| format!("\n  body: {},", quoted(body)));
    format!(
        "const answer = await fetch({}, {{\n  method: {},\n  headers: {{ \"X-API-Key\": {}{kind} }},{body}\n}});\n\
         if (!answer.ok) throw new Error(`status ${{answer.status}}`);\nconsole.log(await answer.text());",
        quoted(call.url),
        quoted(call.method),
        quoted(call.key),
    )
}

fn java(call: &Call<'_>) -> String {
    let kind = call.body.map_or_else(String::new, |(kind, _)| {
        format!("\n    .header(\"Content-Type\", {})", quoted(kind))
    });
    let body = call.body.map_or_else(
        || "HttpRequest.BodyPublishers.noBody()".to_owned(),
        |(_, body)| format!("HttpRequest.BodyPublishers.ofString({})", quoted(body)),
    );
    format!(
        "var request = HttpRequest.newBuilder(URI.create({}))\n    .header(\"X-API-Key\", {}){kind}\n    \
         .timeout(Duration.ofSeconds(10))\n    .method({}, {body})\n    .build();\nvar answer = HttpClient.newHttpClient()\n    \
         .send(request, HttpResponse.BodyHandlers.ofString());\nSystem.out.println(answer.statusCode() + \" \" + answer.body());",
        quoted(call.url),
        quoted(call.key),
        quoted(call.method),
    )
}

fn csharp(call: &Call<'_>) -> String {
    let body = call.body.map_or_else(String::new, |(kind, body)| {
        format!(
            "\nrequest.Content = new StringContent({}, Encoding.UTF8, {});",
            quoted(body),
            quoted(kind)
        )
    });
    format!(
        "using var client = new HttpClient {{ Timeout = TimeSpan.FromSeconds(10) }};\nvar request = new HttpRequestMessage(new \
         HttpMethod({}), {});\nrequest.Headers.Add(\"X-API-Key\", {});{body}\nvar answer = await client.SendAsync(request);\n\
         answer.EnsureSuccessStatusCode();\nConsole.WriteLine(await answer.Content.ReadAsStringAsync());",
        quoted(call.method),
        quoted(call.url),
        quoted(call.key),
    )
}

/// A word for a POSIX shell, in which nothing is special.
fn shell(text: &str) -> String {
    format!("'{}'", text.replace('\'', "'\\''"))
}

/// A string literal; JSON's is one in all these languages.
fn quoted(text: &str) -> String {
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_breaks_out_of_its_quotes() {
        let (url, body) = ("https://x.example/a'b\"c", "{\"a\":\"it's\"}\n");
        let call =
            Call {
                method: "POST", url, key: "cad_1234…", body: Some(("application/json", body))
            };
        let [curl, python, ..] = all(&call);
        assert!(curl.code.contains(r#"'https://x.example/a'\''b"c'"#), "{}", curl.code);
        assert!(python.code.contains(r#""{\"a\":\"it's\"}\n""#), "{}", python.code);
    }
}
