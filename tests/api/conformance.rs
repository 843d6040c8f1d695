//! Whether a response conforms to `/openapi.json`. Every response in these tests is checked.

use std::collections::HashMap;
use std::sync::{Arc, Mutex};

use jsonschema::Validator;
use jwksd_http::AuthMode;
use reqwest::{Method, Url};
use serde_json::{Value, json};
use tokio::sync::OnceCell;

use crate::helpers::TestResponse;

/// The mode of the server at each origin.
static MODES: Mutex<Option<HashMap<String, AuthMode>>> = Mutex::new(None);

/// The OpenAPI document of servers in one mode.
pub(crate) struct Document {
    pub(crate) json: Value,
    validators: Mutex<HashMap<String, Arc<Validator>>>,
}

pub(crate) fn register_server(url: &str, mode: AuthMode) {
    MODES.lock().unwrap().get_or_insert_default().insert(url.to_owned(), mode);
}

/// Fails the test if the response does not conform.
pub(crate) async fn expect(method: &Method, url: &Url, answer: &TestResponse) {
    let document = Document::fetch(url.as_str().trim_end_matches('/')).await;
    if let Err(why) = document.check(method, url.path(), answer) {
        panic!("{method} {} does not conform to /openapi.json: {why}: {answer:?}", url.path());
    }
}

impl Document {
    /// The document of the server at this URL, fetched once for each mode.
    pub(crate) async fn fetch(url: &str) -> &'static Self {
        static OPEN: OnceCell<Document> = OnceCell::const_new();
        static PASSWORD: OnceCell<Document> = OnceCell::const_new();
        let origin = Url::parse(url).unwrap().origin().ascii_serialization();
        let mode = MODES.lock().unwrap().as_ref().unwrap()[&origin];
        let document = match mode {
            AuthMode::Open => &OPEN,
            AuthMode::Password => &PASSWORD,
        };
        let fetch = async || {
            let text = reqwest::get(format!("{origin}/openapi.json")).await.unwrap().text().await.unwrap();
            Self { json: serde_json::from_str(&text).unwrap(), validators: Mutex::default() }
        };
        document.get_or_init(fetch).await
    }

    /// Every path, method and operation.
    pub(crate) fn operations(&self) -> impl Iterator<Item = (&str, &str, &Value)> {
        let paths = self.json["paths"].as_object().unwrap().iter();
        paths.flat_map(|(path, methods)| {
            methods
                .as_object()
                .unwrap()
                .iter()
                .map(move |(method, said)| (path.as_str(), method.as_str(), said))
        })
    }

    /// The path template of the document that matches this path.
    pub(crate) fn path_of(&self, path: &str) -> Option<&str> {
        let fits = |template: &&str| {
            let (given, wanted): (Vec<_>, Vec<_>) =
                (path.split('/').collect(), template.split('/').collect());
            let part = |(given, wanted): (&&str, &&str)| {
                given == wanted || (wanted.starts_with('{') && !given.is_empty())
            };
            given.len() == wanted.len() && given.iter().zip(&wanted).all(part)
        };
        self.json["paths"].as_object().unwrap().keys().map(String::as_str).find(fits)
    }

    pub(crate) fn check(&self, method: &Method, path: &str, answer: &TestResponse) -> Result<(), String> {
        let (pointer, response) = self.response(method, path, answer)?;
        for (name, said) in response["headers"].as_object().into_iter().flatten() {
            let value = answer.header(name).ok_or(format!("the header {name} is missing"))?;
            let of_type = match said["schema"]["type"].as_str() {
                Some("integer") => value.parse::<i64>().map_or(Value::Null, Value::from),
                _ => json!(value),
            };
            self.validate(&format!("{pointer}/headers/{name}/schema"), &of_type)?;
        }
        let content = response["content"].as_object().filter(|_| method != Method::HEAD);
        let Some(content) = content else {
            return answer.text.is_empty().then_some(()).ok_or("the body is not empty".to_owned());
        };
        let media_type = answer.header("content-type").unwrap_or_default();
        if !content.contains_key(media_type) {
            return Err(format!("the media type is {media_type:?}"));
        }
        let body = if media_type == "application/json" { answer.json.clone() } else { json!(answer.text) };
        self.validate(&format!("{pointer}/content/{}/schema", media_type.replace('/', "~1")), &body)
    }

    /// The documented response, with its JSON pointer.
    fn response(
        &self,
        method: &Method,
        path: &str,
        answer: &TestResponse,
    ) -> Result<(String, &Value), String> {
        let status = answer.status.as_str();
        let name = match *method {
            Method::HEAD => "get".to_owned(),
            _ => method.as_str().to_ascii_lowercase(),
        };
        // Of what is answered before routing.
        let common = format!("/components/responses/{status}");
        let pointer = match self.path_of(path) {
            None if status == "405" || self.json.pointer(&common).is_none() => {
                return Err("the path is not documented".to_owned());
            }
            None => common,
            Some(_) if *method == Method::OPTIONS && status == "204" => common,
            Some(known) if self.json["paths"][known][&name].is_null() && status == "403" => common,
            Some(known) if self.json["paths"][known][&name].is_null() => {
                let allow: Vec<_> = self.json["paths"][known].as_object().unwrap().keys().collect();
                let allow: Vec<_> = allow.iter().map(|method| method.to_ascii_uppercase()).collect();
                let allow = allow.join(",").replace("GET", "GET,HEAD");
                if status != "405" || answer.header("allow") != Some(&allow) {
                    return Err(format!("the path supports only {allow}"));
                }
                "/components/responses/405".to_owned()
            }
            Some(known) => format!("/paths/{}/{name}/responses/{status}", known.replace('/', "~1")),
        };
        let response = self.json.pointer(&pointer).ok_or("the status is not documented")?;
        Ok((pointer, response))
    }

    /// Validates a value against the schema at this pointer.
    pub(crate) fn validate(&self, pointer: &str, value: &Value) -> Result<(), String> {
        let known = self.validators.lock().unwrap().get(pointer).cloned();
        let validator = known.unwrap_or_else(|| self.compile(pointer));
        validator.validate(value).map_err(|error| format!("{pointer}: {error}"))
    }

    fn compile(&self, pointer: &str) -> Arc<Validator> {
        let mut schema = self.json.pointer(pointer).unwrap().clone();
        // Its `$ref`s point there.
        schema["components"] = self.json["components"].clone();
        let validator = jsonschema::draft202012::options().should_validate_formats(true).build(&schema);
        let validator = Arc::new(validator.unwrap_or_else(|error| panic!("{pointer}: {error}")));
        self.validators.lock().unwrap().insert(pointer.to_owned(), Arc::clone(&validator));
        validator
    }
}
