//! One file by tus_client: `upload create ENDPOINT FILE`, `upload resume URL FILE CHUNK_BYTES` or `upload delete URL`.
//! Reports are JSON lines on stdout.

use std::collections::HashMap;
use std::env;
use std::path::Path;
use std::process::exit;

use minreq::{Method, Request};
use tus_client::http::{HttpHandler, HttpMethod, HttpRequest, HttpResponse};
use tus_client::{Client, Error};

struct Http;

impl HttpHandler for Http {
    fn handle_request(&self, request: HttpRequest) -> Result<HttpResponse, Error> {
        let method = match request.method {
            HttpMethod::Head => Method::Head,
            HttpMethod::Patch => Method::Patch,
            HttpMethod::Options => Method::Options,
            HttpMethod::Post => Method::Post,
            HttpMethod::Delete => Method::Delete,
        };
        let answer = Request::new(method, &request.url)
            .with_headers(request.headers)
            .with_body(request.body.unwrap_or_default())
            .send()
            .map_err(|error| Error::HttpHandlerError(error.to_string()))?;
        let name = request.method.to_string().to_uppercase();
        println!(r#"{{"event": "answer", "method": "{name}", "status": {}}}"#, answer.status_code);
        Ok(HttpResponse { headers: answer.headers, status_code: answer.status_code as usize })
    }
}

fn main() {
    if let Err(error) = run(&env::args().skip(1).collect::<Vec<_>>()) {
        println!(r#"{{"event": "error", "message": {:?}}}"#, error.to_string());
        exit(1);
    }
}

fn run(arguments: &[String]) -> Result<(), Error> {
    let client = Client::new(Http);
    match arguments.iter().map(String::as_str).collect::<Vec<_>>()[..] {
        ["create", endpoint, file] => {
            let metadata = HashMap::from([("filename".to_string(), "Übung 日本語.bin".to_string())]);
            let url = client.create_with_metadata(endpoint, Path::new(file), metadata)?;
            println!(r#"{{"event": "success", "url": "{url}"}}"#);
        }
        ["resume", url, file, chunk_bytes] => {
            let offset = client.get_info(url)?.bytes_uploaded;
            println!(r#"{{"event": "found", "offset": {offset}}}"#);
            client.upload_with_chunk_size(url, Path::new(file), chunk_bytes.parse()?)?;
            println!(r#"{{"event": "success", "url": "{url}"}}"#);
        }
        ["delete", url] => {
            client.delete(url)?;
            println!(r#"{{"event": "success", "url": "{url}"}}"#);
        }
        _ => panic!("see the top of main.rs"),
    }
    Ok(())
}
