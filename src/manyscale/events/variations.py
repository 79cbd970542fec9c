"""Varied parton showers as further weights of the same events."""

__all__ = ["SHOWER_VARIATIONS", "variation_lines"]

#: Name of each weight to what Pythia varies: the renormalisation scale of the shower before (isr) or
#: after (fsr) the hard scattering, at twice and at half of itself. `up` radiates less.
SHOWER_VARIATIONS = {
    "isr_up": "isr:muRfac=2.0",
    "isr_down": "isr:muRfac=0.5",
    "fsr_up": "fsr:muRfac=2.0",
    "fsr_down": "fsr:muRfac=0.5",
}

# Emissions softer than sqrt(20) of the shower's lowest pT keep their probability: they are many, and
# varied, too, they blow the weights up until a thirtieth of the events is effective, not a half.
_SOFTEST = "UncertaintyBands:FSRpTmin2Fac=20"


def variation_lines() -> tuple[str, ...]:
    """Settings with which Pythia 8 gives each event the weights of `SHOWER_VARIATIONS`.

    Source: S. Mrenna, P. Skands, Phys. Rev. D 94 (2016) 074005, arXiv:1605.08352.
    """
    named = ",".join(f"{name} {varied}" for name, varied in SHOWER_VARIATIONS.items())
    return (
        "UncertaintyBands:doVariations=on",
        _SOFTEST,
        f"UncertaintyBands:List={{{named}}}",
    )
