"""Small HepMC and Les Houches event files."""

import gzip
from pathlib import Path

import pyarrow as pa
import pyhepmc


def compressed(text: bytes, how: str) -> bytes:
    """Compress as 'plain', 'gzip' or 'zstd'."""
    if how == "plain":
        return text
    return gzip.compress(text) if how == "gzip" else pa.compress(text, "zstd", asbytes=True)


def hepmc_text(path: Path, events, kind="HepMC3") -> bytes:
    """Text of events as pyhepmc writes them, by way of a file."""
    with pyhepmc.open(path, "w", format=kind) as file:
        for event in events:
            file.write(event)
    return path.read_bytes()


def hepmc_event(particles, number=0, weights=(1.0,), names=None, cross_section=None, unit="GEV"):
    """Event of particles (PDG code, status, place of the mother or None, (px, py, pz, E)) in GeV.

    Those without a mother leave the collision of two protons of 7 TeV.
    """
    scale = 1000.0 if unit == "MEV" else 1.0
    event = pyhepmc.GenEvent(getattr(pyhepmc.Units, unit), pyhepmc.Units.MM)
    event.event_number = number
    collision, vertices, made = pyhepmc.GenVertex(), {}, []
    for sign in (1, -1):
        beam = pyhepmc.FourVector(0, 0, sign * 7000 * scale, 7000 * scale)
        collision.add_particle_in(pyhepmc.GenParticle(beam, 2212, 4))
    event.add_vertex(collision)
    for code, status, mother, momentum in particles:
        vector = pyhepmc.FourVector(*(scale * component for component in momentum))
        made.append(pyhepmc.GenParticle(vector, code, status))
        vertex = collision if mother is None else vertices.get(mother)
        if vertex is None:
            vertex = vertices[mother] = pyhepmc.GenVertex()
            vertex.add_particle_in(made[mother])
            event.add_vertex(vertex)
        vertex.add_particle_out(made[-1])
    run = pyhepmc.GenRunInfo()
    run.weight_names = list(names or [str(at) for at in range(len(weights))])
    event.run_info = run
    event.weights = list(weights)
    if cross_section is not None:
        event.cross_section = pyhepmc.GenCrossSection()
        event.cross_section.set_cross_section(*cross_section)
    return event


def pythia_event(particles, number):
    """Event of hadrons, leptons, photons and Higgs bosons of one of Pythia's (a list of dicts).

    What made the hadrons is left out: they leave the collision.
    """
    places, kept = {}, []
    for place, particle in enumerate(particles[3:], 3):
        code, mother = particle["id"], particle["mother1"]
        of_higgs = particles[mother]["id"] == 25
        if particle["status"] > 0 or abs(code) > 100 or code == 25 or of_higgs:
            momentum = tuple(particle["p"][name] for name in ("px", "py", "pz", "e"))
            known = places.get(mother) if of_higgs or abs(particles[mother]["id"]) > 100 else None
            kept.append((code, 1 if particle["status"] > 0 else 2, known, momentum))
            places[place] = len(kept) - 1
    return hepmc_event(kept, number)


LHE_HEADER = """<LesHouchesEvents version="3.0">
<header>
{run_card}<initrwgt>
<weightgroup name="scale">
<weight id="up"> up </weight>
<weight id="1002"> down </weight>
</weightgroup>
</initrwgt>
</header>
<init>
2212 2212 6.5e+03 6.5e+03 0 0 247000 247000 {strategy} 1
{cross_section} 0.5 1.0 1
<generator name='Pencil' version='1'> and paper </generator>
</init>
"""


def lhe_event(weight=1.0, pt=300.0, colours=(503, 501, 504, 502)) -> str:
    """Two gluons to two gluons at right angles, of an event with two further weights."""
    one, two, three, four = colours
    return f"""<event>
 4 1 {weight} {pt} 7.5e-03 1.2e-01
 21 -1 0 0 {one} {two} 0 0 {pt} {pt} 0 0 9
 21 -1 0 0 {three} {four} 0 0 {-pt} {pt} 0 0 9
 21 1 1 2 {one} {four} {pt} 0 0 {pt} 0 0 9
 21 1 1 2 {three} {two} {-pt} 0 0 {pt} 0 0 9
<rwgt>
<wgt id='up'> {1.5 * weight} </wgt>
<wgt id='1002'> {0.5 * weight} </wgt>
</rwgt>
</event>
"""


def lhe_text(
    events, strategy=3, cross_section=10.0, end="</LesHouchesEvents>\n", event_norm=None
) -> bytes:
    """Text of a file of events; with a run card of MadGraph's where it says a norm."""
    card = f"<MGRunCard>\n  {event_norm} = event_norm ! average/sum\n</MGRunCard>\n"
    head = LHE_HEADER.format(
        strategy=strategy, cross_section=cross_section, run_card=card if event_norm else ""
    )
    return (head + "".join(events) + end).encode()
