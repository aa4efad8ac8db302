//! Tables of DataFusion whose files are objects of Cirrus.
//!
//! Owns the session: which store its URLs mean, which tables it has, what a query costs. Invariant:
//! what a query is said to have read is what it alone has read.

use std::sync::Arc;
use std::time::{Duration, Instant};

use datafusion::arrow::datatypes::{DataType, SchemaRef};
use datafusion::arrow::record_batch::RecordBatch;
use datafusion::arrow::util::pretty::pretty_format_batches_with_schema;
use datafusion::datasource::file_format::options::ParquetReadOptions;
use datafusion::execution::object_store::ObjectStoreUrl;
use datafusion::object_store::ObjectStore;
use datafusion::prelude::{SessionConfig, SessionContext};

use crate::Result;
use crate::counted::{Counted, Reads};
use crate::trips;

/// The files' last bytes that are read at once: a footer of this data set fits.
const FOOTER_BYTES: usize = 64 << 10;

/// The tables `trips` and `zones`.
pub(crate) struct Tables {
    context: SessionContext,
    store: Arc<Counted>,
    /// What it has cost to learn their columns.
    pub(crate) opened: Cost,
}

#[derive(Debug, Clone, Copy)]
pub(crate) struct Cost {
    pub(crate) took: Duration,
    pub(crate) reads: Reads,
}

/// What a query answers, and what it has cost.
pub(crate) struct Answer {
    schema: SchemaRef,
    pub(crate) batches: Vec<RecordBatch>,
    pub(crate) cost: Cost,
}

impl Tables {
    /// The tables whose files lie in `store`; `url` is what the store is called in SQL.
    pub(crate) async fn open(url: &str, store: Arc<dyn ObjectStore>) -> Result<Self> {
        let (store, begin) = (Arc::new(Counted::new(store)), Instant::now());
        let config = SessionConfig::new()
            // Filters run while a file is decoded, so that no row is made which they drop.
            .set_bool("datafusion.execution.parquet.pushdown_filters", true);
        let context = SessionContext::new_with_config(config);
        context.register_object_store(ObjectStoreUrl::parse(url)?.as_ref(), store.clone());
        let options = ParquetReadOptions::default().metadata_size_hint(Some(FOOTER_BYTES));
        let by_month = vec![("month".to_owned(), DataType::Utf8)];
        for (name, folder, partitions) in
            [("trips", trips::TRIPS, by_month), ("zones", trips::ZONES, Vec::new())]
        {
            let options = options.clone().table_partition_cols(partitions);
            context.register_parquet(name, format!("{url}/{folder}/"), options).await?;
        }
        let opened = Cost { took: begin.elapsed(), reads: store.take() };
        Ok(Self { context, store, opened })
    }

    /// Runs a statement to its end. What runs beside it counts as read by it: run one at a time.
    pub(crate) async fn query(&self, sql: &str) -> Result<Answer> {
        self.store.take();
        let begin = Instant::now();
        let frame = self.context.sql(sql).await?;
        let schema = Arc::new(frame.schema().as_arrow().clone());
        let batches = frame.collect().await?;
        let cost = Cost { took: begin.elapsed(), reads: self.store.take() };
        Ok(Answer { schema, batches, cost })
    }
}

impl Answer {
    /// As a table of text.
    pub(crate) fn text(&self) -> Result<String> {
        Ok(pretty_format_batches_with_schema(self.schema.clone(), &self.batches)?.to_string())
    }
}
