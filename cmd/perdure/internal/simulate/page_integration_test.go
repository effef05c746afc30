//go:build integration && linux

package simulate_test

import (
	"bytes"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/simulate"
	"github.com/seed-0f2c7998/perdure/internal/browsertest"
)

// comparison returns one in that scenario.
func comparison(t *testing.T, scenario string, policies ...string) *simulate.Comparison {
	t.Helper()
	s, err := simulate.Scenario(scenario, "")
	if err != nil {
		t.Fatal(err)
	}
	all, err := simulate.Policies(policies, nil, nil)
	if err != nil {
		t.Fatal(err)
	}
	c, err := simulate.Run(t.Context(), s, 1, all, func(string, float64) {})
	if err != nil {
		t.Fatal(err)
	}
	return c
}

// The page can be read in a real browser, wide and narrow, light, dark and printed, and requests nothing
// anything. PERDURE_TEST_PAGES names a directory that keeps the pictures.
func TestPageInABrowser(t *testing.T) {
	b := browsertest.Open(t)
	named := comparison(t, "brownout", "none", "service", "pipeline", "backoff")
	for i, name := range []string{strings.Repeat("a-name-without-spaces-", 9), strings.Repeat("漢字", 20), strings.Repeat("WM@%", 20)} {
		named.Outcomes[i+1].Name = name
	}
	for name, c := range map[string]*simulate.Comparison{
		"named":    named,
		"brownout": comparison(t, "brownout", "none", "backoff", "aws_standard", "default", "service", "resilience4j"),
		"throttle": comparison(t, "throttle", "backoff_budget", "service", "stamina"),
		"healthy":  comparison(t, "healthy", "default"),
		"restart":  comparison(t, "deploy in a brownout", "none", "service"),
	} {
		var page bytes.Buffer
		if err := c.HTML(&page); err != nil {
			t.Fatal(err)
		}
		for _, wrong := range look(t, b, name, page.String()) {
			t.Errorf("%s: %s", name, wrong)
		}
	}
}

// What the test above looks for is found.
func TestPageThatIsWrong(t *testing.T) {
	b := browsertest.Open(t)
	var page bytes.Buffer
	if err := comparison(t, "outage", "none").HTML(&page); err != nil {
		t.Fatal(err)
	}
	for planted, want := range map[string]string{
		`<img src="https://example.com/x.png" alt="">`: "console: ",
		`<script>1</script>`:                           "console: ",
		`<p style="width: 2000px">wide</p>`:            "overflow: ",
		`<p style="color: #888">faint</p>`:             `contrast: 3.5 for "faint"`,
		`<p style="font-size: 11px">small</p>`:         `small: 11px times 1 for "small"`,
		`<svg viewBox="0 0 9 9" role="img" aria-label="a"><text x="5" y="9">cut</text></svg>`:                      `cut: "cut" in a`,
		`<svg viewBox="0 0 999 99" role="img" aria-label="a"><text y="20">one</text><text y="25">two</text></svg>`: `overlap: "two" and "one" in a`,
		`<table><tr><th>x</table>`: "a heading of a table without a scope",
	} {
		all := look(t, b, "", strings.Replace(page.String(), "</main>", planted+"</main>", 1))
		if !strings.Contains(strings.Join(all, "\n"), want) {
			t.Errorf("%s: found %q, want %q", planted, all, want)
		}
	}
	request := strings.Replace(page.String(), `http-equiv="Content-Security-Policy"`, "", 1)
	request = strings.Replace(request, "</main>", `<img src="http://127.0.0.1:9/x.png" alt=""></main>`, 1)
	if all := strings.Join(look(t, b, "", request), "\n"); !strings.Contains(all, "request: http://127.0.0.1:9/x.png") {
		t.Errorf("a request: found %q", all)
	}
}

// look returns what is wrong with a page, in each form in which it is shown.
func look(t *testing.T, b *browsertest.Browser, name, html string) []string {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, []byte(html), 0o600); err != nil {
		t.Fatal(err)
	}
	address := (&url.URL{Scheme: "file", Path: file}).String()
	return b.Look(address, name, func(request string) bool { return request == address })
}
