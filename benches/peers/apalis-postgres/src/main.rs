//! Drains N jobs with unmodified apalis-postgres, W workers and batches of B jobs. Each job sends a POST. Prints jobs per second.

use std::sync::Arc;
use std::sync::atomic::{AtomicUsize, Ordering};
use std::time::{Duration, Instant};

use apalis::prelude::*;
use apalis_postgres::{Config, PostgresStorage};
use serde::{Deserialize, Serialize};
use sqlx::postgres::PgPoolOptions;

#[derive(Debug, Clone, Serialize, Deserialize)]
struct Job {
    event: String,
    session_id: String,
    customer_id: String,
    text: String,
}

#[derive(Debug, Clone)]
struct Post {
    client: reqwest::Client,
    url: Arc<str>,
    done: Arc<AtomicUsize>,
}

#[tokio::main]
async fn main() {
    let arguments: Vec<usize> = std::env::args().skip(1).map(|text| text.parse().unwrap()).collect();
    let [count, workers, batch] = arguments[..] else { panic!("arguments: jobs, workers, batch") };
    let pool = PgPoolOptions::new().max_connections(20).connect(&std::env::var("DATABASE_URL").unwrap()).await.unwrap();
    PostgresStorage::<()>::setup(&pool).await.unwrap();
    let storage = || {
        let config = Config::default().queue("bench").batch_size(batch).lock_tasks(false).persist_results(true);
        PostgresStorage::<Job>::new(&pool).with_config(config)
    };
    fill(storage(), count).await;

    let done = Arc::new(AtomicUsize::new(0));
    let url: Arc<str> = std::env::var("RECEIVER_URL").unwrap().into();
    let post = Post { client: reqwest::Client::new(), url, done: Arc::clone(&done) };
    let started = Instant::now();
    for number in 0..workers {
        let builder = WorkerBuilder::new(format!("worker-{number}")).backend(storage().with_pubsub());
        let worker = builder.data(post.clone()).concurrency(256).build(attempt);
        tokio::spawn(async move { worker.run().await });
    }
    while done.load(Ordering::Relaxed) < count {
        assert!(started.elapsed() < Duration::from_secs(120), "stalled");
        tokio::time::sleep(Duration::from_millis(5)).await;
    }
    println!("{}", count as f64 / started.elapsed().as_secs_f64());
}

async fn fill(mut storage: PostgresStorage<Job>, count: usize) {
    let job = Job {
        event: "user_message".to_owned(),
        session_id: "s-123456".to_owned(),
        customer_id: "c-1234".to_owned(),
        text: "Hello there, I would like to know the status of my order please".to_owned(),
    };
    for first in (0..count).step_by(500) {
        let mut jobs = futures::stream::iter(vec![job.clone(); 500.min(count - first)]);
        storage.push_stream(&mut jobs).await.unwrap();
    }
}

async fn attempt(job: Job, post: Data<Post>) -> Result<(), BoxDynError> {
    let answer = post.client.post(&*post.url).json(&job).send().await?;
    answer.bytes().await?;
    post.done.fetch_add(1, Ordering::Relaxed);
    Ok(())
}
