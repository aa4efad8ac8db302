//! The worked example, and what plans of pipelines promise.

use super::*;

/// The paper's evaluation: a K80 behind four processors.
fn images() -> Pipeline {
    Pipeline {
        samples: 1_281_167,
        working_set: ByteSize::gib(140),
        stages: vec![Stage {
            name: "decode".into(),
            cpu_seconds: 0.010,
            bytes_in: 110_000,
            bytes_out: 150_528,
            memory: ByteSize::mib(512),
        }],
        trainer: Trainer {
            device_seconds: 0.001,
            cpu_seconds: 0.0005,
            bytes_in: 150_528,
            memory: ByteSize::gib(8),
            devices: NonZeroU32::MIN,
            gpu: Some("k80".into()),
        },
    }
}

/// Machines without a word on their network carry what they are asked, as the paper assumes.
fn without_network(pipeline: &mut Pipeline) {
    pipeline.stages[0].bytes_in = 0;
    pipeline.stages[0].bytes_out = 0;
    pipeline.trainer.bytes_in = 0;
}

#[test]
fn the_papers_machine_cannot_feed_its_gpu_and_others_can() {
    let mut pipeline = images();
    without_network(&mut pipeline);
    // 10.5 ms of processor time over four processors.
    assert!((pipeline.break_even_device_seconds(4.0) - 0.002_625).abs() < 1e-12);
    assert_eq!(pipeline.throughput_max(), 1000.0);
    pipeline.working_set = ByteSize::gib(40);
    let plan = pipeline.plan(&Catalog::built_in("paper").unwrap()).unwrap();
    assert!((plan.full().samples_second - 1000.0).abs() < 1e-9);
    let replicas = [("decode".to_string(), 10), ("trainer".into(), 1), ("memory".into(), 1)];
    assert_eq!(plan.replicas, replicas);
    let alone = plan.collocated.as_ref().unwrap();
    assert_eq!(alone.offer, "p2.xlarge");
    assert!((alone.break_even_device_seconds - 0.002_625).abs() < 1e-12);
    let next = plan.next.as_ref().unwrap();
    assert_eq!((next.devices, next.throughput_share), (2, 1.0));
    assert!(next.delta_usd_hour > 0.0, "{next:?}");
    let sum = plan.full().usd_hour.as_dollars() + next.delta_usd_hour;
    assert!((sum - next.point.usd_hour.as_dollars()).abs() < 1e-9, "{next:?}");
    assert!((alone.device_busy - 4.0 / 10.5).abs() < 1e-9, "{}", alone.device_busy);
    // Feeding it costs more an hour and less an epoch.
    assert!(plan.full().usd_hour > alone.point.usd_hour);
    assert!(plan.full().usd_epoch < 0.7 * alone.point.usd_epoch, "{plan}");
}

#[test]
fn the_frontier_costs_more_an_hour_the_more_it_does() {
    let mut pipeline = images();
    without_network(&mut pipeline);
    let plan = pipeline.plan(&Catalog::built_in("paper").unwrap()).unwrap();
    assert_eq!(plan.frontier.len(), 10);
    for pair in plan.frontier.windows(2) {
        assert!(pair[0].samples_second < pair[1].samples_second);
        assert!(pair[0].usd_hour <= pair[1].usd_hour, "{plan}");
    }
    let svg = plan.figure();
    assert!(svg.contains(&format!(">{:.4}<", plan.full().usd_epoch)), "{svg}");
    assert!(plan.to_string().contains("devices fed fully"), "{plan}");
}

#[test]
fn what_cannot_be_fed_is_refused_with_the_reason() {
    // No machine of 2017 says how fast its network is.
    let error = images().plan(&Catalog::built_in("paper").unwrap()).unwrap_err().to_string();
    assert!(error.contains("network of unknown speed"), "{error}");
    let mut timeless = images();
    timeless.trainer.device_seconds = 0.0;
    let error = timeless.plan(&Catalog::built_in("aws").unwrap()).unwrap_err().to_string();
    assert!(error.contains("`trainer` 0 seconds"), "{error}");
    let mut negative = images();
    negative.stages[0].cpu_seconds = f64::NAN;
    let error = negative.plan(&Catalog::built_in("aws").unwrap()).unwrap_err().to_string();
    assert!(error.contains("`decode` NaN seconds"), "{error}");
}
