// Package browsertest drives a headless chromium, for tests of pages. It needs Linux.
package browsertest

import (
	"bufio"
	"context"
	"encoding/json"
	"io"
	"os"
	"os/exec"
	"testing"
	"time"
)

// A Browser is a headless chromium with one page, which is driven by its DevTools protocol.
type Browser struct {
	t       *testing.T
	to      io.Writer
	from    *bufio.Reader
	number  int
	session string
	events  []message // of the page
}

// A message is one of the protocol: a call, its response, or an event.
type message struct {
	ID      int             `json:"id,omitempty"`
	Session string          `json:"sessionId,omitempty"`
	Method  string          `json:"method,omitempty"`
	Params  json.RawMessage `json:"params,omitempty"`
	Result  json.RawMessage `json:"result,omitempty"`
	Error   json.RawMessage `json:"error,omitempty"`
}

// Open starts a browser, which ends with the test. It skips the test if PERDURE_TEST_CHROMIUM names no chromium.
func Open(t *testing.T) *Browser {
	t.Helper()
	chromium := os.Getenv("PERDURE_TEST_CHROMIUM")
	if chromium == "" {
		t.Skip("PERDURE_TEST_CHROMIUM does not name a chromium (`make integration` installs it)")
	}
	theirs, to, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	from, ours, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	ctx, cancel := context.WithTimeout(context.WithoutCancel(t.Context()), 5*time.Minute)
	c := exec.CommandContext(ctx, chromium, "--headless", "--no-sandbox", "--disable-gpu", "--no-first-run", //nolint:gosec // as said
		"--disable-background-networking", "--disable-component-update", "--disable-sync", "--hide-scrollbars",
		"--user-data-dir="+t.TempDir(), "--remote-debugging-pipe", "about:blank")
	c.ExtraFiles = []*os.File{theirs, ours} // which it wants as 3 and 4
	// Wait waits for the end of this pipe, so for all its processes: they write to their directory until they end.
	c.Stderr, c.WaitDelay = io.Discard, time.Minute
	if err := c.Start(); err != nil {
		t.Fatal(err)
	}
	_, _ = theirs.Close(), ours.Close()
	b := &Browser{t: t, to: to, from: bufio.NewReader(from)}
	t.Cleanup(func() {
		defer cancel()
		_, _ = to.WriteString(`{"id":1,"method":"Browser.close"}` + "\x00")
		_ = c.Wait()
		_, _ = to.Close(), from.Close()
	})
	var target struct{ TargetID string }
	b.response(&target, "Target.createTarget", map[string]any{"url": "about:blank"})
	var attached struct{ SessionID string }
	b.response(&attached, "Target.attachToTarget", map[string]any{"targetId": target.TargetID, "flatten": true})
	b.session = attached.SessionID
	for _, domain := range []string{"Page", "Network", "Log", "Runtime"} {
		b.call(domain+".enable", nil)
	}
	return b
}

// call calls a method, and waits for its end.
func (b *Browser) call(method string, params map[string]any) { b.response(&struct{}{}, method, params) }

// response calls a method whose result is for to.
func (b *Browser) response(to any, method string, params map[string]any) {
	b.t.Helper()
	b.number++
	text, err := json.Marshal(params)
	if err != nil {
		b.t.Fatal(err)
	}
	if params == nil {
		text = json.RawMessage("{}")
	}
	text, err = json.Marshal(message{ID: b.number, Session: b.session, Method: method, Params: text})
	if err != nil {
		b.t.Fatal(err)
	}
	if _, err := b.to.Write(append(text, 0)); err != nil {
		b.t.Fatal(err)
	}
	for m := b.read(); ; m = b.read() {
		if m.ID != b.number {
			continue
		}
		if m.Error != nil {
			b.t.Fatalf("%s: %s", method, m.Error)
		}
		if err := json.Unmarshal(m.Result, to); err != nil {
			b.t.Fatalf("%s: %v: %s", method, err, m.Result)
		}
		return
	}
}

// until waits for an event.
func (b *Browser) until(event string) {
	for _, e := range b.events {
		if e.Method == event {
			return
		}
	}
	for b.read().Method != event {
	}
}

// read returns the next message, and keeps the page's events.
func (b *Browser) read() (m message) {
	b.t.Helper()
	text, err := b.from.ReadBytes(0)
	if err == nil {
		err = json.Unmarshal(text[:len(text)-1], &m)
	}
	if err != nil {
		b.t.Fatal(err)
	}
	if m.Method != "" && m.Session != "" {
		b.events = append(b.events, m)
	}
	return m
}
