//! What the layer costs routes that do not ask for it, counted: no allocation. And what extractors find
//! where layers are nested, fail or hand requests on.

use axum::Router;
use axum::body::Body;
use axum::extract::Path;
use axum::http::{Request, StatusCode};
use axum::routing::get;
use futures_util::FutureExt;
use http_body_util::BodyExt;
use multicore_axum::{Config, Multicore, MulticoreLayer};
use tower::layer::util::Identity;
use tower::{Layer, ServiceExt, service_fn};

async fn layer() -> MulticoreLayer<()> {
    let multicore = Multicore::<()>::builder().name("layer").load_source(|| None);
    MulticoreLayer::new(multicore.start().await.unwrap())
}

/// Allocations of one request, once all that is made only once has been made.
fn allocations(send: impl Fn()) -> u64 {
    send();
    allocation_counter::measure(send).count_total
}

fn routes() -> Router {
    Router::new()
        .route("/light", get(async || "ok"))
        .route("/light/{id}", get(async |Path(id): Path<u32>| id.to_string()))
}

fn send(router: &Router, uri: &str) {
    let request = Request::get(uri).body(Body::empty()).unwrap();
    let response = router.clone().oneshot(request).now_or_never().expect("it waits for nothing").unwrap();
    assert_eq!(response.status(), StatusCode::OK);
}

#[tokio::test]
async fn a_route_that_does_not_ask_for_it_allocates_nothing_for_it() {
    let multicore = layer().await;
    // A layer that does nothing is the measure: axum itself allocates for any layer. With its state, as
    // `serve` gives it one: before that, axum layers routes anew for every request.
    let without = routes().layer(Identity::new()).with_state(());
    let with = routes().layer(multicore).with_state(());
    for uri in ["/light", "/light/7"] {
        assert_eq!(allocations(|| send(&with, uri)), allocations(|| send(&without, uri)), "{uri}");
    }
}

#[tokio::test]
async fn a_service_without_axum_allocates_nothing_for_it() {
    let light = service_fn(async |_: Request<Body>| Ok::<_, std::convert::Infallible>("ok"));
    let with = layer().await.layer(light);
    let ask = || {
        let request = Request::get("/light").body(Body::empty()).unwrap();
        let answer = with.clone().oneshot(request).now_or_never();
        assert_eq!(answer.expect("it waits for nothing"), Ok("ok"));
    };
    let ask_without = || {
        let request = Request::get("/light").body(Body::empty()).unwrap();
        let answer = light.oneshot(request).now_or_never();
        assert_eq!(answer.expect("it waits for nothing"), Ok("ok"));
    };
    assert_eq!(allocations(ask), allocations(ask_without));
}

#[tokio::test]
async fn the_innermost_of_nested_layers_is_found_and_is_gone_afterwards() {
    async fn workers(mc: Multicore<()>) -> String {
        mc.stats().workers.to_string()
    }
    let one =
        Multicore::<()>::builder().name("outer").config(Config::default().workers(1)).start().await.unwrap();
    let two =
        Multicore::<()>::builder().name("inner").config(Config::default().workers(2)).start().await.unwrap();
    let app = Router::new()
        .route("/inner", get(workers))
        .layer(MulticoreLayer::new(two))
        .route("/outer", get(workers))
        .layer(MulticoreLayer::new(one))
        .route("/none", get(async |mc: Option<Multicore<()>>| mc.is_some().to_string()));
    for (uri, expected) in [("/inner", "2"), ("/outer", "1"), ("/none", "false"), ("/inner", "2")] {
        let request = Request::get(uri).body(Body::empty()).unwrap();
        let body = app.clone().oneshot(request).await.unwrap().into_body().collect().await.unwrap();
        assert_eq!(body.to_bytes(), expected, "{uri}");
    }
}

#[tokio::test]
async fn after_a_panic_the_thread_has_nothing_laid_out() {
    async fn broken() {
        panic!("on purpose")
    }
    let app = Router::new().route("/", get(broken)).layer(layer().await);
    let request = Request::get("/").body(Body::empty()).unwrap();
    let caught = std::panic::AssertUnwindSafe(app.oneshot(request)).catch_unwind().await;
    assert!(caught.is_err());
    let bare = Router::new().route("/", get(async |mc: Option<Multicore<()>>| mc.is_some().to_string()));
    let request = Request::get("/").body(Body::empty()).unwrap();
    let body = bare.oneshot(request).await.unwrap().into_body().collect().await.unwrap();
    assert_eq!(body.to_bytes(), "false");
}
