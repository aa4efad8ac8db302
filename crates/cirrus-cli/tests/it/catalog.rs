//! `cirrus catalog`, and the catalogues that other commands take.
//!
//! Owns what a user's own prices go through. Invariant: what is wrong is named by its line and is not
//! kept.

use std::fs;

use serde_json::Value;

use crate::support::Sandbox;

const OWN: &str = "# from the contract\n\
    sku,vcpu,memory_gib,usd_hour,as_of,source,gpus,gpu_kind\n\
    small,2,8,0.10,2026-11-01,contract,,\n\
    large,16,64,0.70,2026-11-02,contract,1,h100\n";

#[test]
fn every_catalogue_is_listed_with_its_days() {
    let sandbox = Sandbox::new();
    let listed = sandbox.run(["catalog", "list"]);
    insta::assert_snapshot!(listed.text(), @r"
        catalogue         offers  prices of                from
        paper                 75  2017-04-04               apache-libcloud==2.0.0, 2 more
        aws                  600  2025-03-02..2026-11-23   apache-libcloud==3.9.1, 2 more
        azure                147  2025-03-02..2026-09-06   apache-libcloud==3.9.1, 1 more
        gcp                  120  2025-03-02..2026-09-06   apache-libcloud==3.9.1, 1 more
    ");
    let lines = sandbox.run(["catalog", "list", "--json"]);
    let lines: Vec<Value> =
        lines.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    let names: Vec<&str> = lines.iter().filter_map(|line| line["catalog"].as_str()).collect();
    assert_eq!(names, ["paper", "aws", "azure", "gcp"]);
    assert_eq!((&lines[0]["offers"], &lines[0]["oldest"]), (&75.into(), &"2017-04-04".into()));
}

#[test]
fn offers_are_shown_the_cheapest_first_within_eighty_columns() {
    let sandbox = Sandbox::new();
    for name in ["paper", "aws", "azure", "gcp"] {
        let shown = sandbox.run(["catalog", "show", name]);
        assert_eq!(shown.code, Some(0), "{}", shown.stderr);
        let wide = shown.text().lines().find(|line| line.chars().count() > 80);
        assert_eq!(wide, None, "{name}");
    }
    let names = "t2.nano,p2.xlarge,lambda-128,m4.large";
    let shown = sandbox.run(["catalog", "show", "paper", "--only", names]);
    insta::assert_snapshot!(shown.text(), @r"
        paper: 4 of 75 offers, prices of 2017-04-04
        vCPU: in bursts; lasting: all the time; GiB: what is left for tasks

        offer         vCPU lasting      GiB    GPUs      $/h    spot
        t2.nano       1.00    0.05     0.50           0.0059
        lambda-128    1.00    0.07     0.12           0.0075
        m4.large      2.00    2.00     8.00           0.1080
        p2.xlarge     4.00    4.00    61.00   1 k80   0.9000
    ");
    let shown = sandbox.run(["catalog", "show", "gcp", "--gpu", "h100", "--json"]);
    let offers: Vec<Value> =
        shown.text().lines().map(|line| serde_json::from_str(line).expect("JSON")).collect();
    assert!(!offers.is_empty());
    for offer in &offers {
        assert_eq!(offer["gpu_kind"], "h100");
        let sizes = (offer["memory"].is_string(), offer["memory_bytes"].is_u64());
        assert!(sizes == (true, true) && offer["source"].is_string(), "{offer}");
    }
    let prices: Vec<f64> = offers.iter().filter_map(|offer| offer["usd_hour"].as_f64()).collect();
    assert!(prices.len() == offers.len() && prices.is_sorted(), "{prices:?}");
    let all = sandbox.run(["catalog", "show", "paper", "--gpu"]);
    assert!(all.text().starts_with("paper: 6 of 75 offers"), "{}", all.text());
}

#[test]
fn ones_own_prices_are_kept_under_a_name() {
    let sandbox = Sandbox::new();
    let file = sandbox.write("prices.csv", OWN).display().to_string();
    let import = sandbox.run(["catalog", "import", &file, "--name", "mine"]);
    let kept = sandbox.path("own/catalogs/mine.csv");
    let text =
        format!("mine: 2 offers, prices of 2026-11-01..2026-11-02, kept in {}\n", kept.display());
    assert_eq!((import.code, import.text()), (Some(0), text.as_str()), "{}", import.stderr);
    assert_eq!(fs::read_to_string(&kept).expect("what was kept"), OWN);
    fs::remove_file(&file).expect("the file");
    let pool = |catalog: &str| {
        sandbox.run(["plan", "pool", "--cpu", "4", "--memory", "1GiB", "--catalog", catalog])
    };
    let plan = pool("mine");
    assert!(plan.text().starts_with("0.200 $/h: 2 small\n"), "{}{}", plan.text(), plan.stderr);
    assert!(sandbox.run(["catalog", "list"]).text().contains("\nmine"));

    // A newer file takes the place of the older one, under the file's own name, too.
    sandbox.write("mine.csv", OWN.replace("0.10", "0.09"));
    assert_eq!(sandbox.run(["catalog", "import", "mine.csv"]).code, Some(0));
    assert!(pool("mine").text().starts_with("0.180 $/h: 2 small\n"));
    let here = pool("./mine.csv");
    assert!(here.text().starts_with("0.180 $/h: 2 small\n"), "{}", here.stderr);
    let left: Vec<_> = fs::read_dir(sandbox.path("own/catalogs")).expect("a folder").collect();
    assert_eq!(left.len(), 1, "a temporary file is left: {left:?}");
}

#[test]
fn prices_that_are_wrong_are_named_by_their_line_and_not_kept() {
    let sandbox = Sandbox::new();
    let line = |text: &str, args: &[&str]| {
        sandbox.write("own.csv", text);
        let ended = sandbox.run([&["catalog", "import", "own.csv"], args].concat());
        assert!(!sandbox.path("own/catalogs").exists(), "something was kept");
        ended.line(1).to_owned()
    };
    insta::assert_snapshot!(line(&OWN.replace("0.70", "0.0"), &[]), @"cirrus: catalogue own.csv, line 4, column usd_hour: `0.0` is no price: 0 means missing (catalogs/README.md has the format)");
    insta::assert_snapshot!(line(&OWN.replace("large,16", "large"), &[]), @"cirrus: catalogue own.csv, line 4: has 7 cells; expected 8, as in the first line (catalogs/README.md has the format)");
    insta::assert_snapshot!(line("sku,price\n", &[]), @"cirrus: catalogue own.csv, line 1: unknown column `price`; expected some of provider,region,zone,sku,vcpu,sustained,memory_gib,allocatable,gpus,gpu_kind,network_gbit,network_burst_gbit,usd_hour,spot_usd_hour,surplus_usd_vcpu_hour,charges_usd_hour,disk_usd_gib_month,transfer_usd_gib,quota,run_minutes_max,inbound,as_of,source,unverified (catalogs/README.md has the format)");
    insta::assert_snapshot!(line("", &[]), @"cirrus: catalogue own.csv, line 1: is empty; expected a line with the columns' names (catalogs/README.md has the format)");
    insta::assert_snapshot!(line(OWN, &["--name", "aws"]), @"cirrus: the catalogue `aws` is built in; give --name with another");
    insta::assert_snapshot!(line(OWN, &["--name", "../x"]), @"cirrus: `../x` is no name of a catalogue; give --name with 1 to 64 of a-z, 0-9, `_` and `-`");
    let long = format!("# {}\n", "x".repeat(16 << 20));
    insta::assert_snapshot!(line(&long, &[]), @"cirrus: catalogue own.csv is longer than 16777216 bytes");
    sandbox.write("own.csv", [0xff, 0xfe]);
    let import = sandbox.run(["catalog", "import", "own.csv"]);
    insta::assert_snapshot!(import.line(1), @"cirrus: catalogue own.csv is not UTF-8 text");
    let import = sandbox.run(["catalog", "import", "no.csv"]);
    insta::assert_snapshot!(import.line(1), @"cirrus: cannot read catalogue no.csv: No such file or directory (os error 2)");
}

#[test]
fn a_catalogue_that_is_not_there_or_has_nowhere_to_go() {
    let sandbox = Sandbox::new();
    let line = |args: &[&str]| sandbox.run(args).line(1).to_owned();
    insta::assert_snapshot!(line(&["catalog", "show", "oci"]), @"cirrus: there is no catalogue `oci`; there are paper, aws, azure, gcp, files *.csv, and what `cirrus catalog import` brings");
    insta::assert_snapshot!(line(&["catalog", "show", "./oci"]), @"cirrus: cannot read catalogue ./oci: No such file or directory (os error 2)");
    insta::assert_snapshot!(line(&["catalog", "show", "paper", "--only", "t9.nano"]), @"cirrus: `t9.nano` is no offer of the catalogue `paper`; `cirrus catalog show paper` lists them");
    insta::assert_snapshot!(line(&["catalog", "show", "paper", "--gpu", "h100"]), @"cirrus: no offer of the catalogue `paper` has a GPU h100; there are k520, k80, m2050");
    sandbox.write("mine.csv", OWN);
    let import = |value: Option<&str>| {
        let mut command = sandbox.cirrus(["catalog", "import", "mine.csv"]);
        command.env_remove("CIRRUS_DATA_DIR").env_remove("XDG_DATA_HOME").env_remove("HOME");
        if let Some(value) = value {
            command.env("HOME", sandbox.path(value));
        }
        sandbox.start(command).wait()
    };
    insta::assert_snapshot!(import(None).line(1), @"cirrus: no place for catalogues: set CIRRUS_DATA_DIR or HOME");
    sandbox.write("file", "in the way");
    let blocked = import(Some("file"));
    let line = blocked.line(1).replace(&sandbox.path("").display().to_string(), "[SANDBOX]/");
    insta::assert_snapshot!(line, @"cirrus: cannot create [SANDBOX]/file/.local/share/cirrus/catalogs: Not a directory (os error 20); set CIRRUS_DATA_DIR to a folder that can be written");
    assert_eq!(import(Some("home")).code, Some(0));
    assert!(sandbox.path("home/.local/share/cirrus/catalogs/mine.csv").exists());
}
