package main

import (
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"path/filepath"
	"strings"
	"syscall"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
)

// A body that brings a byte a second is no silence: --min-rate ends it, and so does --max-elapsed. Without either it comes.
func TestMinRate(t *testing.T) {
	signals := make(chan os.Signal, 1) // the goroutine of all signals must not begin within the test's time
	signal.Notify(signals, syscall.SIGHUP)
	defer signal.Stop(signals)
	const size = 400
	for _, c := range []struct {
		flags string
		code  int
		after time.Duration
		want  string
	}{
		{"--max-attempts 2", 69, 2 * time.Minute, " bytes in 1m0s, which is less than 1024 bytes/s"},
		{"--max-attempts 1 --min-rate 2", 69, time.Minute, " bytes in 1m0s, which is less than 2 bytes/s"},
		{"--max-elapsed 30 --min-rate 0", 69, 30 * time.Second, "not enough time left for another attempt"},
		{"--max-elapsed 90", 69, 2 * time.Minute, "not enough time left for another attempt"}, // at the end of a minute
		{"--method POST --max-elapsed 30.5", 1, 30500 * time.Millisecond, " bytes in 30.5s, which is less than 1024 bytes/s (not repeated"},
		{"--min-rate 0", 0, size * time.Second, "Copied"},
	} {
		t.Run(c.flags, func(t *testing.T) {
			dir := t.TempDir()
			log, err := os.Create(filepath.Join(dir, "log"))
			if err != nil {
				t.Fatal(err)
			}
			defer func() { _ = log.Close() }()
			before := http.DefaultTransport
			defer func() { http.DefaultTransport = before }()
			synctest.Test(t, func(t *testing.T) {
				http.DefaultTransport = servertest.InBubble(t, http.HandlerFunc(func(w http.ResponseWriter, r *http.Request) {
					w.Header().Set("Content-Length", fmt.Sprint(size))
					tick := time.NewTicker(time.Second)
					defer tick.Stop()
					for range size {
						select {
						case <-tick.C:
						case <-r.Context().Done():
							return
						}
						if _, err := w.Write([]byte("x")); err != nil || http.NewResponseController(w).Flush() != nil {
							return
						}
					}
				}))
				a := &app{stdin: os.Stdin, stdout: log, stderr: log, environ: []string{"PERDURE_STATE=" + dir}}
				began := time.Now()
				code := a.main(t.Context(), append([]string{"copy"}, append(strings.Fields(c.flags), "--store", "memory", "--base-delay", "0.001", "--jitter", "0", "http://server/x", filepath.Join(dir, "x"))...))
				text, _ := os.ReadFile(log.Name())
				if took := time.Since(began); code != c.code || took < c.after-time.Second || took > c.after+5*time.Second || !strings.Contains(string(text), c.want) {
					t.Errorf("code %d after %v, want %d after %v and %q\n%s", code, took, c.code, c.after, c.want, text)
				}
			})
		})
	}
}
