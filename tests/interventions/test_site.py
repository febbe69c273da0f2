from __future__ import annotations

import subprocess
import sys
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from interventions import Site, SiteError
from interventions.site import COMPONENTS

SITES = st.builds(Site, st.integers(-50, 50), st.sampled_from(COMPONENTS))


@given(SITES)
def test_parse_inverts_str(site):
    assert Site.parse(str(site)) == site


@pytest.mark.parametrize("text", ["resid", "resid.", "2.resid", "", "resid.two", "resid.2.3"])
def test_text_of_another_form_is_rejected_with_an_example(text):
    with pytest.raises(SiteError, match=r"COMPONENT\.LAYER, for instance resid\.2|component is one of"):
        Site.parse(text)


ROOT = Path(__file__).resolve().parents[2]


def test_the_nearest_component_is_suggested_for_a_misspelt_one():
    with pytest.raises(SiteError, match=r"component 'redis': did you mean 'resid'\?"):
        Site(1, "redis")
    with pytest.raises(SiteError, match="component 'nothing-like-it'"):
        Site.parse("nothing-like-it.1")


@given(SITES, st.integers(1, 40))
def test_layers_are_indices_of_a_python_list(site, n_layers):
    layers = list(range(n_layers))
    try:
        expected = layers[site.layer]
    except IndexError:
        with pytest.raises(SiteError, match=f"Layer {site.layer} does not exist: the model has layers 0 to"):
            site.resolve(n_layers)
    else:
        assert site.resolve(n_layers) == Site(expected, site.component)


def test_sites_sort_in_the_order_of_computation():
    mixed = [Site(1), Site(0), Site(1, "attn"), Site(0, "mlp"), Site(1, "mlp"), Site(0, "attn")]
    ordered = sorted(mixed, key=lambda site: site.order)
    assert [str(site) for site in ordered] == ["attn.0", "mlp.0", "resid.0", "attn.1", "mlp.1", "resid.1"]


def test_the_text_of_a_site_and_fractions_are_not_taken_for_a_layer():
    # In a process without the checks of types that the tests switch on
    program = """
from interventions.errors import SiteError
from interventions.site import Site
for layer in ("resid.1", "1", "attn.-1", 1.0, True, None):
    try:
        print(Site(layer))
    except SiteError as error:
        print(error)
"""
    done = subprocess.run([sys.executable, "-c", program], capture_output=True, text=True, check=True, cwd=ROOT)
    lines = done.stdout.splitlines()
    for layer, line in zip(("resid.1", "1", "attn.-1"), lines[:3], strict=True):
        assert line == f"The layer of a site is a number; Site.parse({layer!r}) reads the text of a site."
    for layer, line in zip(("1.0", "True", "None"), lines[3:], strict=True):
        assert line == f"The layer of a site is a whole number, not {layer}."
