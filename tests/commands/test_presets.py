"""``presets``, and what the config file adds to them."""

from __future__ import annotations


def test_the_guides_presets_in_columns(chroma):
    done = chroma("presets")
    assert (done.code, done.err) == (0, "")
    header, *rows = done.lines
    assert header.split() == ["NAME", "SIZE", "CFG", "STEPS", "SAMPLER", "SCHEDULER", "FOR"]
    assert [row.split()[0] for row in rows] == ["fine-art", "illustration", "photorealism", "prototype"]
    assert rows[0].split()[1:6] == ["2048x2048", "14", "68", "dpmpp_sde", "karras"]
    assert rows[0].index("2048x2048") == header.index("SIZE")


def test_presets_as_json_lines(chroma, config):
    path = config('[presets.mine]\nsampler = "heun"\nseed = 5\n')
    found = {one["name"]: one for one in chroma("presets", "--json").json}
    assert set(found) == {"fine-art", "illustration", "photorealism", "prototype", "mine"}
    assert found["mine"] == {
        "schema": 1,
        "name": "mine",
        "about": None,
        "values": {"sampler": "heun", "seed": 5},
        "source": str(path),
    }
    assert found["prototype"]["values"]["size"] == "768x768"
    assert found["prototype"]["source"] == "built-in"


def test_a_preset_of_the_config_file_shows_all_it_holds(chroma, config):
    path = config('[presets.mine]\nwidth = 900\ncfg = 3.5\nnegative_prompt = "mud"\n')
    [row] = [line for line in chroma("presets").lines if line.startswith("mine")]
    assert row.split()[1:5] == ["900x·", "3.5", "·", "·"]
    assert "negative_prompt=mud" in row
    assert str(path) in row


def test_a_preset_of_the_config_file_can_be_used(chroma, config):
    config('[presets.mine]\nsteps = 33\nsize = "900x800"\n[defaults]\npreset = "mine"\ncfg = 4\n')
    [value] = chroma("generate", "a fox", "--dry-run", "--json").json
    request = value["request"]
    assert (request["steps"], request["cfg"], request["width"], request["height"]) == (33, 4, 900, 800)
    [value] = chroma("generate", "a fox", "--dry-run", "--json", "-p", "prototype", "--steps", "11").json
    request = value["request"]
    assert (request["steps"], request["cfg"], request["width"]) == (11, 6, 768)


def test_a_misspelt_key_is_an_error_with_table_key_and_suggestion_even_if_unused(chroma, config):
    path = config("[defaults]\nstep = 3\n[presets.mine]\nnegative-prompt = 'x'\ncfg = 99\n")
    for args in (["presets"], ["config"], ["generate", "a fox", "--dry-run"]):
        done = chroma(*args, "--json")
        assert done.code == 2
        assert done.error["type"] == "config"
        lines = done.error["message"].splitlines()
        assert len(lines) == 3
        assert lines[0] == f"step in [defaults] of {path}: there is no such key. Did you mean 'steps'?"
        assert lines[1].startswith(f"negative-prompt in [presets.mine] of {path}: ")
        assert lines[1].endswith("Did you mean 'negative_prompt'?")
        assert lines[2].startswith(f"cfg in [presets.mine] of {path}: 99 ")


def test_a_preset_cannot_name_a_preset_or_a_prompt(chroma, config):
    config("[presets.mine]\npreset = 'fine-art'\n[defaults]\nprompt = 'x'\n")
    done = chroma("presets", "--json")
    assert done.code == 2
    assert len(done.error["message"].splitlines()) == 2


def test_text_of_a_config_file_is_printed_as_text(chroma, config):
    config('[presets."[red]x\\u001b[31m\\u202e"]\ncfg = 3\n')
    done = chroma("presets")
    assert done.code == 0
    assert "[red]x" in done.out
    assert not {"\x1b", "\u202e"} & set(done.out)
