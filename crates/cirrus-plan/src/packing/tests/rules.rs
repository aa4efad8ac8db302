//! Small applications on small price lists: what each rule does to a plan, and what is said of it.

use super::super::*;

fn task(name: &str, cores: u32, gib: u64) -> PackedTask {
    let demand = Demand::default()
        .with_cpu(crate::demand::Cpu::sustained(cirrus_units::Cores::milli(cores * 1000)))
        .with_memory(cirrus_units::ByteSize::gib(gib));
    PackedTask::new(name, demand)
}

fn replicas(count: u32) -> crate::demand::Replicas {
    crate::demand::Replicas::new(count, count).unwrap()
}

fn own(rows: &str) -> Catalog {
    let head = "provider,zone,sku,vcpu,memory_gib,gpus,gpu_kind,network_gbit,usd_hour,spot_usd_hour,\
                surplus_usd_vcpu_hour,sustained,disk_usd_gib_month,quota,run_minutes_max,inbound,\
                as_of,source";
    let rows: String = rows.lines().map(|row| format!("{row},2026-11-23,test\n")).collect();
    Catalog::read("own", &format!("{head}\n{rows}")).unwrap()
}

fn machines(plan: &Plan) -> Vec<String> {
    plan.machines.iter().map(|it| format!("{} {} {}", it.count, it.offer, it.paid)).collect()
}

fn application(tasks: impl IntoIterator<Item = PackedTask>) -> Application {
    Application { tasks: tasks.into_iter().collect(), ..Application::default() }
}

#[test]
fn rules_of_placement_hold() {
    let catalog = own("p,,box,4,16,,,,0.1,,,,,,,");
    let mut both = application([task("a", 1, 1), task("b", 1, 1)]);
    both.tasks[0].demand.replicas = replicas(2);
    both.tasks[1].demand.replicas = replicas(2);
    assert_eq!(machines(&pack(&both, &catalog).unwrap()), ["1 box on demand"]);
    both.apart = vec![["a".into(), "b".into()]];
    assert_eq!(machines(&pack(&both, &catalog).unwrap()), ["2 box on demand"]);
    both.apart.push(["a".into(), "a".into()]);
    assert_eq!(machines(&pack(&both, &catalog).unwrap()), ["3 box on demand"]);
    both.apart = Vec::new();
    both.together = vec![vec!["a".into(), "b".into()]];
    let three = [("a".to_string(), 1), ("b".to_string(), 1)];
    both.tasks.iter_mut().for_each(|task| task.demand.cpu.cores = cirrus_units::Cores::milli(1500));
    let plan = pack(&both, &catalog).unwrap();
    assert_eq!(plan.placements.len(), 1);
    assert!(plan.placements[0].tasks.clone().into_iter().eq(three), "{:?}", plan.placements);
    both.apart = vec![["b".into(), "a".into()]];
    let error = pack(&both, &catalog).unwrap_err().to_string();
    assert!(error.contains("`b` and `a` are both together and apart"), "{error}");
    let mut alone = application([task("a", 1, 1), task("b", 1, 1)]);
    alone.tasks[0].alone = true;
    assert_eq!(machines(&pack(&alone, &catalog).unwrap()), ["2 box on demand"]);
}

#[test]
fn spot_is_for_those_who_bear_it() {
    let catalog = own("p,,box,4,16,,,,0.1,0.03,,,,,,");
    let mut one = application([task("a", 4, 1)]);
    assert_eq!(machines(&pack(&one, &catalog).unwrap()), ["1 box on demand"]);
    one.tasks[0].demand.spot = true;
    assert_eq!(machines(&pack(&one, &catalog).unwrap()), ["1 box spot"]);
    for role in [Role::Memory, Role::Storage, Role::Coordinator] {
        one.tasks[0].role = role;
        assert_eq!(machines(&pack(&one, &catalog).unwrap()), ["1 box on demand"], "{role:?}");
    }
    one.tasks[0].demand.replicas = replicas(2);
    one.tasks[0].role = Role::Memory;
    assert_eq!(machines(&pack(&one, &catalog).unwrap()), ["2 box spot"]);
}

#[test]
fn bursts_zones_networks_limits_and_functions_are_kept_apart() {
    // A burstable machine sustains a fifth, or all of it for more money.
    let burst = own("p,,tiny,2,4,,,,0.01,,0.05,0.2,,,,\np,,box,2,4,,,,0.2,,,,,,,");
    let mut one = application([task("a", 1, 1)]);
    assert_eq!(machines(&pack(&one, &burst).unwrap()), ["1 tiny surplus CPU"]);
    assert_eq!(pack(&one, &burst).unwrap().usd_hour.as_micros(), 10_000 + 80_000);
    one.tasks[0].demand.cpu.kind = crate::demand::CpuKind::Burst;
    assert_eq!(machines(&pack(&one, &burst).unwrap()), ["1 tiny on demand"]);
    // An application stays in one zone, even where each task has a cheaper one elsewhere.
    let zones =
        own("p,a,small,1,1,,,,0.01,,,,,,,\np,a,big,8,64,,,,0.9,,,,,,,\np,b,big,8,64,,,,0.5,,,,,,,");
    let two = application([task("a", 1, 1), task("b", 8, 64)]);
    assert_eq!(machines(&pack(&two, &zones).unwrap()), ["1 small on demand", "1 big on demand"]);
    // Unknown network is none; a limit leads to the dearer machine, and beyond it to an error.
    let network = own("p,,none,8,64,,,,0.1,,,,,1,,\np,,fast,8,64,,,10,0.3,,,,,1,,");
    let mut wired = application([task("a", 8, 1)]);
    wired.tasks[0].demand.network = "1Gbit/s".parse().unwrap();
    assert_eq!(machines(&pack(&wired, &network).unwrap()), ["1 fast on demand"]);
    let mut plain = application([task("a", 8, 1)]);
    plain.tasks[0].demand.replicas = replicas(2);
    let plan = pack(&plain, &network).unwrap();
    assert_eq!((machines(&plan).len(), plan.usd_hour.as_micros()), (2, 400_000));
    plain.limits.insert("fast".into(), 0);
    let error = pack(&plain, &network).unwrap_err().to_string();
    assert!(
        error.contains("the limits leave too few machines") && error.contains("0 fast"),
        "{error}"
    );
    // A function takes short tasks that nobody connects to.
    let functions = own("p,,lambda,1,1,,,,0.001,,,,,,15,no\np,,box,1,1,,,,0.1,,,,,,,");
    let mut short = application([task("a", 1, 1)]);
    assert_eq!(machines(&pack(&short, &functions).unwrap()), ["1 box on demand"]);
    short.tasks[0].run_minutes = Some(10);
    assert_eq!(machines(&pack(&short, &functions).unwrap()), ["1 lambda on demand"]);
    short.tasks[0].serves = true;
    assert_eq!(machines(&pack(&short, &functions).unwrap()), ["1 box on demand"]);
    // Disks are paid by the GiB: 730 GiB at a dollar a month are a dollar an hour.
    let disks = own("p,,box,1,1,,,,0.1,,,,1,,,\np,,bare,1,1,,,,0.01,,,,,,,");
    let mut stored = application([task("a", 1, 1)]);
    stored.tasks[0].demand.disk = cirrus_units::ByteSize::gib(730);
    let plan = pack(&stored, &disks).unwrap();
    assert_eq!([plan.usd_hour.as_micros(), plan.disk_usd_hour.as_micros()], [1_100_000, 1_000_000]);
    assert!(plan.to_string().contains("the tasks' disks, together            1.0000\n"), "{plan}");
    assert!(!pack(&short, &functions).unwrap().to_string().contains("disks"));
}

#[test]
fn the_shadow_price_of_a_dear_sum_is_its_price() {
    let catalog = own("p,,box,1,1,,,,9000,,,,,,,");
    let mut many = application([task("a", 1, 1)]);
    many.tasks[0].demand.replicas = replicas(1000);
    let plan = pack(&many, &catalog).unwrap();
    assert_eq!(plan.usd_hour.as_dollars(), 9e6);
    let paid: f64 = plan.uses.iter().map(|it| it.shadow_usd_hour * it.needed).sum();
    assert!((paid - 9e6).abs() < 1.0, "{paid} {plan}");
}

#[test]
fn what_fits_nowhere_is_named_with_what_the_nearest_lacks() {
    let aws = Catalog::built_in("aws").unwrap();
    let mut greedy = application([task("tiny", 1, 1), task("train", 4, 16)]);
    let gpus = std::num::NonZeroU32::new(9).unwrap();
    greedy.tasks[1].demand.gpu = Some(crate::demand::Gpu::new(gpus).of_kind("h100"));
    let error = pack(&greedy, &aws).unwrap_err().to_string();
    assert_eq!(
        error,
        "`train` fits no machine of `aws`; the nearest, p5.48xlarge (aws us-east-1), has 8 GPUs \
         where 9 is needed"
    );
    type Change = fn(&mut PackedTask);
    let cases: [(Change, &str); 4] = [
        (|task| task.demand.memory = cirrus_units::ByteSize::gib(99_000), "memory where 96.67 TiB"),
        (|task| task.demand.disk = cirrus_units::ByteSize::gib(1), "has no disk"),
        (|task| task.name = "tiny".into(), "two tasks are called `tiny`"),
        (|task| task.name = " ".into(), "a task has an empty name"),
    ];
    for (change, words) in cases {
        let mut wrong = application([task("tiny", 1, 1), task("other", 1, 1)]);
        change(&mut wrong.tasks[1]);
        let paper = Catalog::built_in("paper").unwrap();
        let error = pack(&wrong, &paper).unwrap_err().to_string();
        assert!(error.contains(words), "{error}");
    }
    // Zone b has machines for two of three.
    let zones = own(
        "p,a,small,1,1,,,,0.01,,,,,,,\np,b,wide,8,4,,,,0.5,,,,,,,\np,c,high,1,64,,,,0.5,,,,,,,",
    );
    let three = application([task("a", 1, 1), task("b", 8, 4), task("c", 1, 64)]);
    let error = pack(&three, &zones).unwrap_err().to_string();
    assert_eq!(
        error,
        "no zone of `own` has machines for all tasks, and an application stays in one; p b has \
         none for `c`"
    );
    let mut ruled = application([task("a", 1, 1)]);
    ruled.together = vec![vec!["a".into(), "z".into()]];
    assert!(
        pack(&ruled, &aws).unwrap_err().to_string().contains("`z`, which is no task; tasks are a")
    );
    assert!(pack(&Application::default(), &aws).unwrap_err().to_string().starts_with("0 tasks"));
}

#[test]
fn the_json_has_its_schema_and_the_text_is_money_first() {
    let catalog = own("p,,box,4,16,,,,0.1,,,,,,,\np,,gpu,8,64,1,t4,,0.5,,,,,,,");
    let mut two = application([task("decode", 2, 4), task("train", 2, 8)]);
    two.tasks[0].demand.replicas = replicas(3);
    two.tasks[1].demand.gpu = Some(crate::demand::Gpu::new(std::num::NonZeroU32::MIN));
    let plan = pack(&two, &catalog).unwrap();
    assert_eq!(machines(&plan), ["1 gpu on demand"]);
    let json: serde_json::Value = serde_json::to_value(&plan).unwrap();
    assert_eq!(json["machines"][0]["offer"], "gpu");
    assert_eq!(json["machines"][0]["count"], 1);
    assert_eq!(json["machines"][0]["usd_hour"], 0.5);
    assert_eq!(json["placements"][0]["tasks"], serde_json::json!({"decode": 3, "train": 1}));
    assert_eq!(
        (&json["usd_hour"], &json["bound"], &json["gap"]),
        (&0.5.into(), &0.5.into(), &0.0.into())
    );
    assert_eq!(json["binding"], "gpu");
    assert_eq!(
        (&json["tasks"][0]["task"], &json["tasks"][0]["replicas"]),
        (&"decode".into(), &3.into())
    );
    assert_eq!(json["tasks"][0]["memory"], "4 GiB");
    assert_eq!(json["tasks"][0]["memory_bytes"], 4u64 << 30);
    let used: Vec<_> = plan.uses.iter().map(|it| (it.resource, it.used)).collect();
    assert_eq!(used[0], (Resource::Cpu, 1.0));
    let text = plan.to_string();
    assert!(
        text.starts_with("0.5000 $/h; no packing costs less than 0.5000 $/h (gap 0.00 %)"),
        "{text}"
    );
    assert!(text.contains("3 decode, 1 train") && text.contains("  binds"), "{text}");
}
