//! Rows as they stand in the files that are published.
//!
//! Those of Google's traces are from ClusterData2011_2 and ClusterData2019, which Google publishes
//! under CC-BY 4.0.

use cirrus_trace::formats::Format;
use cirrus_trace::problems::{Kind, Spot};
use cirrus_trace::reading::open;
use cirrus_trace::record::{
    Amount, Class, Gauge, Machine, MachineId, Placement, Record, Task, TaskId, Use,
};

use crate::support::{both, memory, options, read, read_text, uses};

const TASK_USAGE: &str = "\
600000000,900000000,3418309,0,4155527081,0.001562,0.06787,0.07568,0.001156,0.001503,0.06787,2.861e-06,0.0001869,0.03967,0.0003567,2.445,0.007243,0,1,0
600000000,900000000,3418309,1,329150663,0.001568,0.06787,0.07556,0.0003195,0.0007,0.06787,5.722e-06,0.0001879,0.03302,0.0009289,2.1,0.005791,0,1,0
";

const TASK_EVENTS: &str = "\
0,2,3418309,0,4155527081,0,70s3v5qRyCO/1PCdI6fVXnrW8FU/w+5CKRSa72xgcIo=,3,9,,,,
0,2,3418309,1,329150663,0,70s3v5qRyCO/1PCdI6fVXnrW8FU/w+5CKRSa72xgcIo=,3,9,,,,
0,,3418314,0,3938719206,0,70s3v5qRyCO/1PCdI6fVXnrW8FU/w+5CKRSa72xgcIo=,3,9,0.125,0.07446,0.0004244,0
";

const MACHINE_EVENTS: &str = "\
0,5,0,HofLGzk1Or/8Ildj2+Lqv0UGGvY82NLoni8+J/Yy0RU=,0.5,0.2493
0,6,0,HofLGzk1Or/8Ildj2+Lqv0UGGvY82NLoni8+J/Yy0RU=,0.5,0.2493
";

const SAMPLE_2019: &str = "\
row,time,instance_events_type,collection_id,instance_index,machine_id,collection_type,alloc_collection_id,priority,scheduling_class,scheduler,vertical_scaling,start_time,end_time,req_cpu,req_mem,avg_cpu,avg_mem,max_cpu,max_mem,assigned_memory,page_cache_memory,sample_rate,failed
0,0,2,94591244395,144,168846390496,1,0,200.0,3.0,0.0,1.0,274800000000,275100000000,0.020660400390625,0.014434814453125,0.00466156005859375,0.00592041015625,0.01190185546875,0.0059356689453125,0.014434814453125,0.0004148483276367,1.0,0
1,2517305308183,2,260697606809,335,85515092,0,221495397286,360.0,2.0,0.0,2.0,1800713000000,1800714000000,0.00724029541015625,0.0013027191162109375,0.0,9.5367431640625e-07,0.0,9.5367431640625e-07,0.0,0.0,1.0,0
2,195684022913,6,276227177776,376,169321752432,0,0,103.0,2.0,1.0,2.0,81300000000,81600000000,0.048583984375,0.0041656494140625,0.024200439453125,0.002788543701171875,0.06005859375,0.00284576416015625,0.0104217529296875,0.0002346038818359,1.0,0
";

#[test]
fn google_2011_task_usage() {
    // The table is told from the number of columns where the name does not say it.
    for name in ["task_usage.csv", "part-00000-of-00500.csv"] {
        let (records, problems) = read_text(Format::Google2011, name, TASK_USAGE);
        assert!(problems.is_empty(), "{problems}");
        let first = Record::Use(Use {
            start: 600_000_000,
            end: 900_000_000,
            machine: Some(MachineId(4_155_527_081)),
            task: Some(TaskId { collection: 3_418_309, index: 0 }),
            class: None,
            mean: both(0.001562, 0.06787),
            memory_max: Some(0.06787),
            request: memory(0.07568),
        });
        assert_eq!(records.len(), 2);
        assert_eq!(records[0], first);
        assert_eq!(uses(&records)[1].machine, Some(MachineId(329_150_663)));
    }
}

#[test]
fn google_2011_task_events() {
    // The published rows say that tasks were submitted: they run nowhere yet.
    let (records, problems) = read_text(Format::Google2011, "task_events.csv", TASK_EVENTS);
    assert!(records.is_empty() && problems.is_empty(), "{records:?} {problems}");
    let placed = |event: &str, priority: &str| {
        format!("5,,3418314,7,3938719206,{event},user=,3,{priority},0.125,0.07446,0.0004244,0\n")
    };
    let task = TaskId { collection: 3_418_314, index: 7 };
    let runs = |class| Placement {
        machine: Some(MachineId(3_938_719_206)),
        request: both(0.125, 0.07446),
        class: Some(class),
    };
    for (event, priority, expected) in [
        ("1", "0", Some(Some(runs(Class::Free)))),
        ("1", "1", Some(Some(runs(Class::Free)))),
        ("1", "2", Some(Some(runs(Class::Middle)))),
        ("8", "8", Some(Some(runs(Class::Middle)))),
        ("8", "9", Some(Some(runs(Class::Production)))),
        ("1", "10", Some(Some(runs(Class::Production)))),
        ("1", "11", Some(Some(runs(Class::Monitoring)))),
        ("0", "0", None),
        ("7", "0", None),
        ("2", "0", Some(None)),
        ("3", "0", Some(None)),
        ("4", "0", Some(None)),
        ("5", "0", Some(None)),
        ("6", "0", Some(None)),
    ] {
        let (records, problems) =
            read_text(Format::Google2011, "task_events.csv", &placed(event, priority));
        assert!(problems.is_empty(), "{problems}");
        let expected = expected.map(|runs| Record::Task(Task { at: 5, task, runs }));
        assert_eq!(records, Vec::from_iter(expected), "event {event}, priority {priority}");
    }
    let (records, problems) =
        read_text(Format::Google2011, "task_events.csv", &(placed("1", "12") + &placed("9", "0")));
    let Record::Task(Task { runs: Some(placement), .. }) = &records[0] else {
        panic!("{records:?}")
    };
    assert_eq!((records.len(), placement.class), (1, None));
    assert_eq!((problems.count(Kind::ClassUnknown), problems.count(Kind::EventUnknown)), (1, 1));
}

#[test]
fn google_2011_machine_events() {
    let after =
        format!("{MACHINE_EVENTS}600000000,5,2,x,0.5,\n700000000,6,1,x,,\n{},5,1,x,,\n", i64::MAX);
    let (records, problems) = read_text(Format::Google2011, "machine_events.csv", &after);
    assert!(problems.is_empty(), "{problems}");
    let machine = |at, machine, capacity| {
        Record::Machine(Machine { at, until: None, machine: MachineId(machine), capacity })
    };
    let expected = [
        machine(0, 5, Some(both(0.5, 0.2493))),
        machine(0, 6, Some(both(0.5, 0.2493))),
        machine(600_000_000, 5, Some(Amount { cpu: Some(0.5), memory: None })),
        machine(700_000_000, 6, None),
    ];
    assert_eq!(records, expected);
}

#[test]
fn google_2019_flat_sample() {
    let (mut records, problems) = read_text(Format::Google2019, "sample.csv", SAMPLE_2019);
    assert!(problems.is_empty(), "{problems}");
    let alloc_set = Record::Use(Use {
        start: 274_800_000_000,
        end: 275_100_000_000,
        machine: Some(MachineId(168_846_390_496)),
        task: Some(TaskId { collection: 94_591_244_395, index: 144 }),
        class: Some(Class::Production),
        // It has room and no use of its own.
        mean: Amount::default(),
        memory_max: None,
        request: both(0.020_660_400_390_625, 0.014_434_814_453_125),
    });
    assert_eq!(records.remove(0), alloc_set);
    let [inside, outside] = uses(&records)[..] else { panic!("{records:?}") };
    assert_eq!(inside.class, Some(Class::Monitoring));
    assert_eq!(inside.mean, both(0.0, 9.536_743_164_062_5e-07));
    assert_eq!(inside.request, Amount::default());
    assert_eq!(outside.class, Some(Class::BestEffort));
    assert_eq!(outside.memory_max, Some(0.002_845_764_160_156_25));
    assert_eq!(outside.request, both(0.048_583_984_375, 0.004_165_649_414_062_5));

    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("sample.csv");
    std::fs::write(&path, SAMPLE_2019).unwrap();
    let mut options = options();
    options.allocs = true;
    let records: Vec<Record> = open(Format::Google2019, &[path], options).unwrap().collect();
    let uses = uses(&records);
    assert_eq!(uses[0].mean, both(0.004_661_560_058_593_75, 0.005_920_410_156_25));
    assert_eq!(uses[1].request, both(0.007_240_295_410_156_25, 0.001_302_719_116_210_937_5));
}

#[test]
fn google_2019_json_of_alloc_sets_and_markers() {
    let text = concat!(
        r#"{"time":"0","type":"3","collection_id":"9","priority":"119","instance_index":"1","machine_id":"7","alloc_collection_id":"4","resource_request":{"cpus":0.5,"memory":0.25}}"#,
        "\n",
        r#"{"time":"1","type":3,"collection_id":"4","instance_index":"1","machine_id":"0","resource_request":{"cpus":0.5,"memory":0.25}}"#,
        "\n\n",
        r#"{"time":"9223372036854775807","type":"7","collection_id":"9","instance_index":"1"}"#,
        "\n{\"time\":\n",
    );
    let (records, problems) = read_text(Format::Google2019, "a.json", text);
    let task = |at, collection, machine: Option<u64>, request, class| {
        let machine = machine.map(MachineId);
        let runs = Some(Placement { machine, request, class });
        Record::Task(Task { at, task: TaskId { collection, index: 1 }, runs })
    };
    let expected = [
        task(0, 9, Some(7), Amount::default(), Some(Class::Middle)),
        task(1, 4, None, both(0.5, 0.25), None),
    ];
    assert_eq!(records, expected);
    assert_eq!(problems.total(), 1);
    let place = problems.get(Kind::NotJson).unwrap().first.clone().unwrap();
    assert_eq!(place.at, Some(Spot::Line(5)));
}

#[test]
fn alibaba_2018_tables_are_joined_whatever_their_order() {
    let directory = tempfile::tempdir().unwrap();
    let write = |name: &str, text: &str| std::fs::write(directory.path().join(name), text).unwrap();
    write("machine_meta.csv", "m_2,20,5,9,64,50,USING\nm_1,0,1,2,96,100,USING\n");
    write(
        "machine_usage.csv",
        "m_1,30,-1,50,,,43.0,33.1,5\nm_2,10,50,50,,,,,\nm_1,10,25,101,,,,,\n",
    );
    write(
        "batch_task.csv",
        "M1,2,j_7,1,Terminated,15,60,100.0,0.5\nR2_1,1,j_7,1,Running,40,0,50.0,0.25\nM1,1,j_9,1,Waiting,45,,50.0,0.25\n",
    );
    write(
        "batch_instance.csv",
        "ins_3,R2_1,j_7,1,Terminated,50,70,m_2,1,1,25.0,50,0.125,0.25\n\
         ins_1,M1,j_7,1,Terminated,15,25,m_1,1,1,50.0,100,0.25,0.5\n\
         ins_2,M1,j_8,1,Terminated,15,25,,1,1,,,,\n\
         ins_4,M1,j_7,1,Running,15,0,m_1,1,1,1,1,1,1\n",
    );
    write("container_meta.csv", "c_1,m_1,0,a,started,400,400,1.56\n");
    let (records, problems) = read(Format::Alibaba2018, directory.path());
    let second = 1_000_000;
    assert!(records.is_sorted_by_key(Record::time));
    let machines = |r: &&Record| matches!(r, Record::Machine(_));
    assert_eq!(records.iter().filter(machines).count(), 2);
    let Record::Machine(first) = &records[0] else { panic!("{records:?}") };
    assert_eq!((first.at, first.capacity), (0, Some(both(96.0, 1.0))));
    let gauge =
        |at: i64, used| Record::Gauge(Gauge { at: at * second, machine: first.machine, used });
    let gauges: Vec<&Record> = records.iter().filter(|r| matches!(r, Record::Gauge(_))).collect();
    let expected = [gauge(10, Amount { cpu: Some(24.0), memory: None }), gauge(30, memory(0.5))];
    assert_eq!(gauges, [&expected[0], &expected[1]]);
    let [planned, unplanned, running] = uses(&records)[..] else { panic!("{records:?}") };
    assert_eq!((planned.start, planned.end), (15 * second, 25 * second));
    assert_eq!(planned.machine, Some(first.machine));
    assert_eq!(planned.mean, both(0.5, 0.0025));
    assert_eq!(planned.memory_max, Some(0.005));
    assert_eq!(planned.request, both(1.0, 0.005));
    assert_eq!((unplanned.request, unplanned.machine), (Amount::default(), None));
    assert_eq!(running.request, both(0.5, 0.0025));
    assert_eq!(planned.task.unwrap().collection, planned.task.unwrap().collection);
    assert_ne!(planned.task.unwrap().collection, unplanned.task.unwrap().collection);
    let counts = [
        (Kind::FileNotUsed, 1),
        (Kind::OutOfRange, 2),
        (Kind::NoTime, 1),
        (Kind::PlanUnknown, 1),
        (Kind::CapacityUnknown, 1),
    ];
    assert_eq!(
        problems.iter().map(|(kind, tally)| (kind, tally.count)).collect::<Vec<_>>(),
        counts
    );
}

#[test]
fn spar_has_no_machines() {
    let directory = tempfile::tempdir().unwrap();
    let tasks = "0,j_1446403,J24_20_23,382,50.0,0.3,9\n0,j_1446403,R23_22,268,50.0,0.3,9\n";
    std::fs::write(directory.path().join("sample_tasks.csv"), tasks).unwrap();
    let instances = "0,j_1446403,J24_20_23,ins_134260461,52,74.0,0.1\n";
    std::fs::write(directory.path().join("sample_instances.csv"), instances).unwrap();
    let (records, problems) = read(Format::Alibaba2018, directory.path());
    assert!(problems.is_empty(), "{problems}");
    let [used] = uses(&records)[..] else { panic!("{records:?}") };
    assert_eq!((used.start, used.end, used.machine), (0, 52_000_000, None));
    assert_eq!(used.mean, both(0.74, 0.1 / 100.0));
    assert_eq!(used.request, both(0.5, 0.3 / 100.0));
}

#[test]
fn generic_rows_are_a_machine_and_a_use() {
    let text = "\
memory_used,time,machine,memory_capacity,task,duration,priority_class,cpu_used,memory_max,memory_reserved
12.5,0,a,64,,,,,,
,0.5,b,64,,,,,,
3,1,a,,x,0.25,best-effort,2,4,8
3,1,a,,y,,rush,,,
,1,c,,,,,,,
1,2,,64,,,,,,
1,,c,64,,,,,,
1,x,c,64,,,,,,
1,2,c,64,,0,,,,
-1,2,c,64,,,,,,
";
    let (records, problems) = read_text(Format::Generic, "any.csv", text);
    let second = 1_000_000;
    let uses = uses(&records);
    let machines: Vec<&Machine> = records
        .iter()
        .filter_map(|r| if let Record::Machine(machine) = r { Some(machine) } else { None })
        .collect();
    let times: Vec<_> = machines.iter().map(|m| (m.at, m.until, m.capacity)).collect();
    let there = |at: i64| (at, Some(at + 300 * second), Some(memory(64.0)));
    assert_eq!(times, [there(0), there(second / 2), there(2 * second)]);
    assert_ne!(machines[0].machine, machines[1].machine);
    assert_eq!(uses.len(), 3);
    assert_eq!((uses[0].mean, uses[0].task, uses[0].class), (memory(12.5), None, None));
    assert_eq!(uses[0].machine, Some(machines[0].machine));
    assert_eq!((uses[1].start, uses[1].end), (second, second + second / 4));
    assert_eq!((uses[1].mean, uses[1].request), (both(2.0, 3.0), memory(8.0)));
    assert_eq!((uses[1].class, uses[1].memory_max), (Some(Class::BestEffort), Some(4.0)));
    assert_ne!(uses[1].task, uses[2].task);
    let counts = [
        (Kind::NumberUnreadable, 1),
        (Kind::ValueMissing, 3),
        (Kind::OutOfRange, 1),
        (Kind::NoTime, 1),
        (Kind::ClassUnknown, 1),
    ];
    assert_eq!(
        problems.iter().map(|(kind, tally)| (kind, tally.count)).collect::<Vec<_>>(),
        counts
    );
    let first = problems.get(Kind::ClassUnknown).unwrap();
    assert!(first.first.as_ref().unwrap().to_string().ends_with("any.csv:5"));
    assert_eq!(first.text, "priority_class \"rush\"");
}
