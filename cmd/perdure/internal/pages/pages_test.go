package pages

import (
	"encoding/json"
	"strings"
	"testing"
)

func TestLink(t *testing.T) {
	for _, row := range []struct{ header, want string }{
		{`<https://h/2>; rel="next"`, "https://h/2"},
		{`<2>;rel=next`, "2"},
		{`<2>; rel="prev next"`, "2"},
		{`<2>; rel='next'`, "2"},
		{`<2>; rel='prev next'; x`, "2"},
		{`<2>; REL=NEXT`, "2"},
		{`<1>; rel="prev", <3>; rel="next", <9>; rel="last"`, "3"},
		{`<3>; title="a, b; c"; rel="next"`, "3"},
		{`<3>; title="\"", <4>; rel=next`, "4"},
		{`<a,b;c>; rel=next`, "a,b;c"},
		{`<3> ; a ; b=c ; rel = next`, "3"},
		{`,, <3>; rel=next,`, "3"},
		{`<3>; rel=prev; rel=next`, ""}, // the first one counts (RFC 8288, 3.3)
		{`<3>; rel=nextone`, ""},
		{`<3>`, ""},
		{`<3`, ""},
		{``, ""},
		{`3; rel=next`, ""},
		{`<3>; rel="next`, "3"},
		{`<3> x; rel=next`, ""},
	} {
		if got := Link([]string{row.header}); got != row.want {
			t.Errorf("%s leads to %q, want %q", row.header, got, row.want)
		}
	}
	if got := Link([]string{`<1>; rel=prev`, `<2>; rel=next`}); got != "2" {
		t.Errorf("the second header field leads to %q, want 2", got)
	}
}

func TestField(t *testing.T) {
	const body = `{"a": {"b": {"c": 1}, "b.c": 2}, "a.b": {"d": 3}, "@odata.nextLink": 4, "x": null, "": 6, "e": {"f.g": {"h": 5}}}`
	for path, want := range map[string]string{
		"a.b.d": "3", "@odata.nextLink": "4", "x": "null", "a.b.c": "2", "e.f.g.h": "5",
		"a.c": "", "a.b.c.d": "", "y": "", "A": "", "a..b": "",
	} {
		if got, found := field(json.RawMessage(body), path); string(got) != want || found != (want != "") {
			t.Errorf("%s is %q, want %q", path, got, want)
		}
	}
}

// A list of links and a page are what a server sends.
func FuzzPages(f *testing.F) {
	f.Add(`<a>; rel="next"`, `{"a": [1, {"b": 2}]}`, "a")
	f.Add(`<a>; x="\`, `[1]`, "")
	f.Add("<a>;=,;", `{"a": {"b.c": null}}`, "a.b.c")
	f.Fuzz(func(t *testing.T, header, body, path string) {
		if got := Link([]string{header}); got != "" && !strings.Contains(header, "<"+got+">") {
			t.Errorf("%q leads to %q", header, got)
		}
		r := &Reader{Spec: Spec{items: path}}
		if !json.Valid([]byte(body)) || r.add([]byte(body)) != nil {
			return
		}
		for line := range strings.Lines(r.lines.String()) {
			if !json.Valid([]byte(line)) || !strings.HasSuffix(line, "\n") {
				t.Errorf("%q has the line %q", body, line)
			}
		}
	})
}
