//! Sample upstreams: small HTTP servers on loopback.

use std::{
    collections::BTreeMap,
    io,
    net::SocketAddr,
    sync::{
        Arc, Mutex, PoisonError,
        atomic::{AtomicU64, Ordering},
    },
};

use axum::{
    Json, Router,
    extract::{Path, Query, State},
    http::StatusCode,
    response::{IntoResponse, Response},
    routing::get,
};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio_util::{sync::CancellationToken, task::TaskTracker};

use crate::record::Sample;

/// The sample upstreams that are running.
#[derive(Debug, Clone)]
pub struct Upstreams {
    clinic: [SocketAddr; 2],
    drugs: [SocketAddr; 2],
    beds: SocketAddr,
}

/// Appointments that the replicas of the clinic share.
#[derive(Default)]
struct Bookings(Mutex<BTreeMap<u64, Value>>);

#[derive(Clone)]
struct Clinic {
    replica: &'static str,
    bookings: Arc<Bookings>,
    next: Arc<AtomicU64>,
}

/// The most appointments that are remembered.
const BOOKINGS_MAX: usize = 1_000;

impl Upstreams {
    /// Starts all of them on free ports; they end when `stop` is cancelled.
    pub async fn start(tracker: &TaskTracker, stop: &CancellationToken) -> io::Result<Self> {
        let bookings = Arc::new(Bookings::default());
        let next = Arc::new(AtomicU64::new(1));
        let clinic = |replica| {
            let state =
                Clinic { replica, bookings: Arc::clone(&bookings), next: Arc::clone(&next) };
            Router::new()
                .route("/health", get(|| async { "ok" }))
                .route("/slots", get(slots))
                .route("/appointments", axum::routing::post(book))
                .route("/appointments/{id}", get(read_booking).delete(cancel))
                .with_state(state)
        };
        let drugs = |replica: &'static str| {
            Router::new()
                .route("/health", get(|| async { "ok" }))
                .route("/medicines", get(find_medicines))
                .route("/medicines/{code}", get(read_medicine))
                .with_state(replica)
        };
        let calls = Arc::new(AtomicU64::new(0));
        let beds = Router::new().route("/wards", get(wards)).with_state(calls);
        Ok(Self {
            clinic: [
                serve(clinic("north-1"), tracker, stop).await?,
                serve(clinic("north-2"), tracker, stop).await?,
            ],
            drugs: [
                serve(drugs("directory-1"), tracker, stop).await?,
                serve(drugs("directory-2"), tracker, stop).await?,
            ],
            beds: serve(beds, tracker, stop).await?,
        })
    }

    /// Where the replicas of a sample answer.
    pub fn urls(&self, sample: Sample) -> Vec<String> {
        let addresses: &[SocketAddr] = match sample {
            Sample::Clinic => &self.clinic,
            Sample::Drugs => &self.drugs,
            Sample::Beds => std::slice::from_ref(&self.beds),
        };
        addresses.iter().map(|address| format!("http://{address}")).collect()
    }
}

async fn serve(
    router: Router,
    tracker: &TaskTracker,
    stop: &CancellationToken,
) -> io::Result<SocketAddr> {
    let listener = TcpListener::bind(("127.0.0.1", 0)).await?;
    let address = listener.local_addr()?;
    let stop = stop.clone();
    tracker.spawn(async move {
        // A sample that ends early shows as an unhealthy target, which is what it is.
        drop(
            axum::serve(listener, router)
                .with_graceful_shutdown(async move { stop.cancelled().await })
                .await,
        );
    });
    Ok(address)
}

async fn slots(
    State(clinic): State<Clinic>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<Value> {
    let all = [
        ("s-101", "cardiology", "2027-01-11T08:30:00Z", 30),
        ("s-102", "cardiology", "2027-01-11T09:00:00Z", 30),
        ("s-201", "dermatology", "2027-01-12T13:15:00Z", 15),
    ];
    let wanted = query.get("specialty");
    let slots: Vec<Value> = all
        .iter()
        .filter(|(_, specialty, _, _)| wanted.is_none_or(|wanted| wanted == specialty))
        .map(|(id, specialty, start, minutes)| {
            json!({
                "id": id, "specialty": specialty, "start": start, "minutes": minutes, "servedBy": clinic.replica,
            })
        })
        .collect();
    Json(Value::Array(slots))
}

async fn book(State(clinic): State<Clinic>, Json(booking): Json<Value>) -> Response {
    let Some(slot) = booking.get("slotId").and_then(Value::as_str) else {
        return problem(StatusCode::UNPROCESSABLE_ENTITY, "slotId is missing");
    };
    let number = clinic.next.fetch_add(1, Ordering::Relaxed);
    let appointment = json!({
        "id": format!("a-{number}"), "slotId": slot, "status": "booked", "servedBy": clinic.replica,
    });
    let mut bookings = clinic.bookings.0.lock().unwrap_or_else(PoisonError::into_inner);
    if bookings.len() >= BOOKINGS_MAX {
        bookings.pop_first();
    }
    bookings.insert(number, appointment.clone());
    (StatusCode::CREATED, Json(appointment)).into_response()
}

async fn read_booking(State(clinic): State<Clinic>, Path(id): Path<String>) -> Response {
    let bookings = clinic.bookings.0.lock().unwrap_or_else(PoisonError::into_inner);
    match number(&id).and_then(|number| bookings.get(&number)) {
        Some(appointment) => Json(appointment.clone()).into_response(),
        None => problem(StatusCode::NOT_FOUND, "there is no such appointment"),
    }
}

async fn cancel(State(clinic): State<Clinic>, Path(id): Path<String>) -> Response {
    let mut bookings = clinic.bookings.0.lock().unwrap_or_else(PoisonError::into_inner);
    match number(&id).and_then(|number| bookings.get_mut(&number)) {
        Some(appointment) => {
            if let Some(fields) = appointment.as_object_mut() {
                fields.insert("status".to_owned(), json!("cancelled"));
            }
            StatusCode::NO_CONTENT.into_response()
        }
        None => problem(StatusCode::NOT_FOUND, "there is no such appointment"),
    }
}

fn number(id: &str) -> Option<u64> {
    id.strip_prefix("a-")?.parse().ok()
}

const MEDICINES: [(&str, &str, &str, &str); 4] = [
    ("M-0001", "Amoxicillin", "capsule", "500 mg"),
    ("M-0002", "Metformin", "tablet", "850 mg"),
    ("M-0003", "Atorvastatin", "tablet", "20 mg"),
    ("M-0004", "Salbutamol", "inhaler", "100 µg"),
];

fn medicine((code, name, form, strength): (&str, &str, &str, &str), replica: &str) -> Value {
    json!({ "code": code, "name": name, "form": form, "strength": strength, "servedBy": replica })
}

async fn find_medicines(
    State(replica): State<&'static str>,
    Query(query): Query<BTreeMap<String, String>>,
) -> Json<Value> {
    let wanted = query.get("name").map(|name| name.to_lowercase()).unwrap_or_default();
    let found = MEDICINES
        .into_iter()
        .filter(|(_, name, _, _)| name.to_lowercase().contains(&wanted))
        .map(|row| medicine(row, replica))
        .collect();
    Json(Value::Array(found))
}

async fn read_medicine(State(replica): State<&'static str>, Path(code): Path<String>) -> Response {
    match MEDICINES.into_iter().find(|(known, _, _, _)| *known == code) {
        Some(row) => Json(medicine(row, replica)).into_response(),
        None => problem(StatusCode::NOT_FOUND, "there is no such medicine"),
    }
}

/// Every third call fails.
async fn wards(State(calls): State<Arc<AtomicU64>>) -> Response {
    if calls.fetch_add(1, Ordering::Relaxed) % 3 == 2 {
        return problem(StatusCode::INTERNAL_SERVER_ERROR, "the ward system is down for a moment");
    }
    let wards = json!([
        { "name": "Cardiology", "freeBeds": 4 },
        { "name": "Intensive care", "freeBeds": 1 },
        { "name": "Paediatrics", "freeBeds": 7 },
    ]);
    Json(wards).into_response()
}

fn problem(status: StatusCode, detail: &str) -> Response {
    let body = json!({
        "title": status.canonical_reason(), "status": status.as_u16(), "detail": detail,
    });
    (status, Json(body)).into_response()
}
