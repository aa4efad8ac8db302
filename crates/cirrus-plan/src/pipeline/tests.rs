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
    assert_eq!((next.point.devices, next.throughput_share), (2, 1.0));
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

#[test]
fn the_frontier_rents_no_device_that_its_throughput_does_not_take() {
    let paper = Catalog::built_in("paper").unwrap();
    let with = |devices: u32| {
        let mut pipeline = images();
        without_network(&mut pipeline);
        pipeline.trainer.devices = NonZeroU32::new(devices).unwrap();
        pipeline.plan(&paper).unwrap()
    };
    let four = with(4);
    let devices = |points: &[Point]| points.iter().map(|it| it.devices).collect::<Vec<_>>();
    assert_eq!(devices(&four.frontier), [1, 1, 2, 2, 2, 3, 3, 4, 4, 4]);
    assert_eq!(devices(&four.beyond), [8, 16, 32]);
    let alone = four.collocated.as_ref().unwrap();
    assert_eq!(alone.devices_asked, 4, "{four}");
    assert_eq!(alone.feeding.as_ref().unwrap().offer, "p2.16xlarge", "{four}");
    for devices in 1..=3 {
        let with = with(devices);
        for less in with.frontier.iter().chain(&with.beyond) {
            let as_fast = |it: &&Point| it.samples_second <= less.samples_second * (1.0 + 1e-9);
            let ours = four.frontier.iter().rfind(as_fast);
            let dearer = ours.is_some_and(|ours| ours.usd_hour > less.usd_hour);
            assert!(!dearer, "{less:?} with {devices}, {ours:?} with 4");
        }
    }
}

#[test]
fn a_cost_that_cannot_be_is_named() {
    let aws = Catalog::built_in("aws").unwrap();
    let refused = |change: fn(&mut Pipeline)| {
        let mut pipeline = images();
        change(&mut pipeline);
        pipeline.plan(&aws).unwrap_err().to_string()
    };
    let none = refused(|it| it.samples = 0);
    assert!(none.contains("samples") && none.contains('0'), "{none}");
    let long = refused(|it| it.trainer.device_seconds = 2e6);
    assert!(long.contains("`trainer` 2000000 seconds"), "{long}");
    let long = refused(|it| it.stages[0].cpu_seconds = 1e12);
    assert!(long.contains("`decode` 1000000000000 seconds"), "{long}");
    let idle = refused(|it| (it.stages[0].cpu_seconds, it.trainer.cpu_seconds) = (0.0, 0.0));
    assert!(idle.contains("no processor time"), "{idle}");
}

#[test]
fn the_cheapest_machine_that_feeds_all_devices_alone_is_named() {
    let mut pipeline = images();
    without_network(&mut pipeline);
    pipeline.trainer.device_seconds = 0.003;
    let plan = pipeline.plan(&Catalog::built_in("paper").unwrap()).unwrap();
    let feeding = plan.collocated.as_ref().unwrap().feeding.as_ref().unwrap();
    assert_eq!(feeding.offer, "p2.8xlarge");
    pipeline.working_set = ByteSize::gib(40);
    let plan = pipeline.plan(&Catalog::built_in("paper").unwrap()).unwrap();
    let feeding = plan.collocated.as_ref().unwrap().feeding.as_ref().unwrap();
    assert_eq!(feeding.offer, "p2.xlarge");
    assert!(plan.to_string().contains("1 of 1 devices, busy 100 %"), "{plan}");
    assert!(plan.to_string().contains("the cheapest alone to feed all: p2.xlarge, "), "{plan}");
    pipeline.trainer.devices = NonZeroU32::new(40).unwrap();
    let plan = pipeline.plan(&Catalog::built_in("paper").unwrap()).unwrap();
    assert!(plan.to_string().contains("no single machine feeds all"), "{plan}");
    assert!(plan.to_string().contains(" of 40 devices, busy "), "{plan}");
}

#[test]
fn the_worked_example_is_what_the_documentation_shows() {
    let mut pipeline = images();
    without_network(&mut pipeline);
    pipeline.working_set = ByteSize::gib(40);
    let text = pipeline.plan(&Catalog::built_in("paper").unwrap()).unwrap().to_string();
    let docs = include_str!("../../../../docs/cost.md");
    assert!(docs.contains(text.trim_end()), "docs/cost.md lacks:\n{text}");
}
