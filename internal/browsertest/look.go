package browsertest

import (
	_ "embed"
	"encoding/base64"
	"encoding/json"
	"fmt"
	"os"
	"path/filepath"
	"strings"
)

//go:embed look.js
var look string

// Look opens the page at address, and returns what is wrong with it in each form in which it is shown: wide and narrow,
// light, dark and printed. The page may request what own reports true for. If PERDURE_TEST_PAGES names a directory and
// name is not empty, pictures of the page are written there.
func (b *Browser) Look(address, name string, own func(url string) bool) (wrong []string) {
	b.t.Helper()
	b.events = nil
	b.call("Page.navigate", map[string]any{"url": address})
	b.until("Page.loadEventFired")
	for _, form := range []struct {
		width         int
		media, scheme string
	}{
		{1280, "screen", "light"},
		{1280, "screen", "dark"},
		{360, "screen", "light"},
		{360, "screen", "dark"},
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
	return append(wrong, b.complaints(own)...)
}

// complaints returns what the page requested besides its own, and what the browser complained about.
func (b *Browser) complaints(own func(url string) bool) (wrong []string) {
	for _, e := range b.events {
		var p struct {
			Request struct{ URL string }
			Entry   struct{ Text string }
		}
		_ = json.Unmarshal(e.Params, &p)
		switch {
		case e.Method == "Network.requestWillBeSent" && !own(p.Request.URL) && !strings.HasPrefix(p.Request.URL, "data:"):
			wrong = append(wrong, "request: "+p.Request.URL)
		case e.Method == "Log.entryAdded":
			wrong = append(wrong, "console: "+p.Entry.Text)
		case e.Method == "Runtime.consoleAPICalled", e.Method == "Runtime.exceptionThrown":
			wrong = append(wrong, "console: "+string(e.Params))
		}
	}
	return wrong
}

func (b *Browser) photograph(file string) {
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
