"""What is said below a table: how its figures were made, which rows differ, where published ones come from."""

from statistics import mean

from ssl_lab.cells import SCRATCH, Found, differ, figure, find, headline, paired, supervised
from ssl_lab.known import Job, Known, Table, lines_of
from ssl_lab.spec import beside, published


def remarks(table: Table, jobs: list[Job], known: Known) -> list[str]:
    """How the rows were measured and where trained, which differ, where published figures come from."""
    found = find(table, jobs, known)
    parts = []
    for protocol, asked in table.asked.items():
        parts.append(f"- {protocol}: {', '.join(f'{key} {value}' for key, value in asked.items())}")
    if ranked := ranks(table, found):
        differ = "> where the next row is worse by the 95 % interval of the paired difference over seeds"
        further = '≈ where that is not told apart; "also" names rows further down that are worse by it'
        parts += [f"From best to worst; {differ}, {further}:", *ranked]
    return [*parts, *machines(found), *notes(table)]


def ranks(table: Table, found: Found) -> list[str]:
    """The rows of each protocol from best to worst; > where the next is worse beyond doubt, ≈ where it is not.

    Beyond doubt: the 95 % interval of the paired difference over seeds excludes zero. It need not for a row between two
    that it tells apart, so each row is held to all below it. Rows of less than three seeds are left out, and named.
    """
    told, few = [], dict[str, None]()
    for protocol in [*table.spec["protocols"], *beside(table.spec)]:
        every = {name: by[protocol] for name, by in found.rows.items() if protocol in by}
        if protocol == "finetune" and (scratch := supervised(found)):
            every[SCRATCH] = scratch
        own = {name: scored for name, scored in every.items() if len(scored) >= 3}
        few |= dict.fromkeys(name for name in every if name not in own)
        order = sorted(own, key=lambda name: -mean(own[name].values()))
        if len(order) < 2:
            continue
        line, further = order[0], []
        for place, better in enumerate(order[:-1], start=1):
            worse = [name for name in order[place:] if differ(paired(own[better], own[name]))]
            line += f" {'>' if order[place] in worse else '≈'} {order[place]}"
            if beyond := [name for name in worse if name != order[place]]:
                tail = len(beyond) > 2 and beyond == order[-len(beyond) :]
                further.append(f"{better} > {f'{beyond[0]} and all below' if tail else ', '.join(beyond)}")
        told.append("; also ".join([f"{protocol}: {line}", *further]))
    return [*told, f"Not ranked, of fewer than three seeds: {'; '.join(few)}"] if told and few else told


def machines(found: Found) -> list[str]:
    """What the runs were trained on: the times of unlike machines do not compare."""
    where: dict[str, dict[str, None]] = {}
    for row, runs in found.runs.items():
        for run in runs:
            if it := run.get("hardware"):
                where.setdefault(", ".join(it["gpus"]) or f"{it['cores']} cores of {it['cpu']}", {})[row] = None
    if len(where) < 2:
        return [f"Trained on {name}" for name in where]
    each = "; ".join(f"on {name}: {', '.join(rows)}" for name, rows in where.items())
    return [f"Trained {each}; their times do not compare"]


def notes(table: Table) -> list[str]:
    """Where the published figures stand, and what was trained and measured in another way than here."""
    told: dict[str, list[str]] = {}
    for row, given in published(table.spec).items():
        for protocol, one in given.items():
            how = f"; † measured as: {one['measured']}" if one.get("measured") else ""
            doubt = "; ? not verified" if one.get("verified") is False else ""
            told.setdefault(f"{one['source']}{how}{doubt}", []).append(f"{row} ({protocol})")
    lines = [f"{', '.join(names)}: {source}" for source, names in told.items()]
    unlike = {what: ["all rows"] for what in table.spec.get("unlike") or []}
    for row, given in table.spec["rows"].items():
        if given.get("unlike"):
            unlike.setdefault(given["unlike"], []).append(row)
    lines += [f"‡ unlike what is published, {', '.join(names)}: {what}" for what, names in unlike.items()]
    comparable = any(not one.get("measured") for given in published(table.spec).values() for one in given.values())
    if comparable and not table.beside_published:
        there = table.published_split
        lines.append(f"† published figures are of the {there} split, these of {table.split}: split={there} compares")
    return lines


def against(table: Table, jobs: list[Job], ours: Known, kept: Known) -> tuple[list[str], int]:
    """Each figure made here beside the one that was kept, and how many lie outside that one's interval over images."""
    told, outside = [], 0
    for job in jobs:
        runs = [known.run(job, table) for known in (ours, kept)]
        here, there = (lines_of(run, table) if run else {} for run in runs)
        for protocol, again in [kind for kind in here if kind in there]:
            made, was = figure(here[protocol, again]), there[protocol, again]
            low, high = (was["figures"].get(f"{headline(was)}_{end}") for end in ("low", "high"))
            what = f"{protocol}, recalibrated" if again else protocol
            line = f"{job.row}, seed {job.seed}, {what}: {100 * made:.1f} here, {100 * figure(was):.1f} kept"
            if low is not None and high is not None:
                inside = low <= made <= high
                line += f", {'in' if inside else 'OUTSIDE'} {100 * low:.1f} to {100 * high:.1f}"
                outside += not inside
            told.append(line)
    return told, outside
