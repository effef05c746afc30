//go:build integration && linux

package simulate_test

import (
	"bytes"
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"net/url"
	"os"
	"path/filepath"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/simulate"
)

//go:embed testdata/look.js
var look string

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
	b := browse(t)
	for name, c := range map[string]*simulate.Comparison{
		"brownout": comparison(t, "brownout", "none", "backoff", "aws_standard", "default", "service", "resilience4j"),
		"throttle": comparison(t, "throttle", "backoff_budget", "service", "stamina"),
		"healthy":  comparison(t, "healthy", "default"),
		"restart":  comparison(t, "deploy in a brownout", "none", "service"),
	} {
		var page bytes.Buffer
		if err := c.HTML(&page); err != nil {
			t.Fatal(err)
		}
		for _, wrong := range b.look(t, name, page.String()) {
			t.Errorf("%s: %s", name, wrong)
		}
	}
}

// What the test above looks for is found.
func TestPageThatIsWrong(t *testing.T) {
	b := browse(t)
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
		all := b.look(t, "", strings.Replace(page.String(), "</main>", planted+"</main>", 1))
		if !strings.Contains(strings.Join(all, "\n"), want) {
			t.Errorf("%s: found %q, want %q", planted, all, want)
		}
	}
	request := strings.Replace(page.String(), `http-equiv="Content-Security-Policy"`, "", 1)
	request = strings.Replace(request, "</main>", `<img src="http://127.0.0.1:9/x.png" alt=""></main>`, 1)
	if all := strings.Join(b.look(t, "", request), "\n"); !strings.Contains(all, "request: http://127.0.0.1:9/x.png") {
		t.Errorf("a request: found %q", all)
	}
}

// look returns what is wrong with a page, in each form in which it is shown.
func (b *browser) look(t *testing.T, name, html string) (wrong []string) {
	t.Helper()
	file := filepath.Join(t.TempDir(), "page.html")
	if err := os.WriteFile(file, []byte(html), 0o600); err != nil {
		t.Fatal(err)
	}
	address := (&url.URL{Scheme: "file", Path: file}).String()
	b.events = nil
	b.call("Page.navigate", map[string]any{"url": address})
	b.until("Page.loadEventFired")
	for _, form := range []struct {
		width         int
		media, scheme string
	}{
		{1280, "screen", "light"},
		{1280, "screen", "dark"},
		{390, "screen", "light"},
		{390, "screen", "dark"},
		{700, "print", "dark"}, // less than the narrowest usual paper has between its margins
	} {
		b.call("Emulation.setDeviceMetricsOverride", map[string]any{"width": form.width, "height": 900, "deviceScaleFactor": 1, "mobile": false})
		b.call("Emulation.setEmulatedMedia", map[string]any{
			"media": form.media, "features": []map[string]string{{"name": "prefers-color-scheme", "value": form.scheme}},
		})
		var found struct{ Result struct{ Value []string } }
		b.response(&found, "Runtime.evaluate", map[string]any{"expression": look, "returnByValue": true})
		for _, w := range found.Result.Value {
			wrong = append(wrong, fmt.Sprintf("%d px, %s, %s: %s", form.width, form.media, form.scheme, w))
		}
		if dir := os.Getenv("PERDURE_TEST_PAGES"); dir != "" && name != "" {
			b.photograph(filepath.Join(dir, fmt.Sprintf("%s-%d-%s-%s.png", name, form.width, form.media, form.scheme)))
		}
	}
	return append(wrong, b.complaints(address)...)
}

// complaints returns what the page asked for besides itself, and what the browser complained about.
func (b *browser) complaints(address string) (wrong []string) {
	for _, e := range b.events {
		var p struct {
			Request struct{ URL string }
			Entry   struct{ Text string }
		}
		_ = json.Unmarshal(e.Params, &p)
		switch {
		case e.Method == "Network.requestWillBeSent" && p.Request.URL != address && !strings.HasPrefix(p.Request.URL, "data:"):
			wrong = append(wrong, "request: "+p.Request.URL)
		case e.Method == "Log.entryAdded":
			wrong = append(wrong, "console: "+p.Entry.Text)
		case e.Method == "Runtime.consoleAPICalled", e.Method == "Runtime.exceptionThrown":
			wrong = append(wrong, "console: "+string(e.Params))
		}
	}
	return wrong
}

func (b *browser) photograph(file string) {
	var picture struct{ Data string }
	b.response(&picture, "Page.captureScreenshot", map[string]any{"format": "png", "captureBeyondViewport": true})
	data, err := base64.StdEncoding.DecodeString(picture.Data)
	if err == nil {
		err = os.WriteFile(file, data, 0o600)
	}
	if err != nil {
		b.t.Error(err)
	}
}
