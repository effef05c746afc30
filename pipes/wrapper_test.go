package pipes

import (
	"context"
	"errors"
	"fmt"
	"path/filepath"
	"slices"
	"strings"
	"testing"
	"testing/synctest"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/internal/pipestest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A child with RelayEnv has the step's context, and its messages go to our file.
func TestRelayEnv(t *testing.T) {
	l := listen(t, pipestest.Context("a"))
	file := filepath.Join(t.TempDir(), "private")
	env := []string{"A=b"}
	for _, name := range []string{contextVariable, messagesVariable} {
		value, _ := l.config.LookupEnv(name)
		env = append(env, name+"="+value)
	}
	before := slices.Clone(env)
	redirected := RelayEnv(env, file)
	if !slices.Equal(env, before) || len(redirected) != 3 || redirected[0] != "A=b" {
		t.Errorf("%q became %q", before, redirected)
	}
	child, err := Open(t.Context(), Config{LookupEnv: func(name string) (string, bool) {
		for _, pair := range redirected {
			if value, ok := strings.CutPrefix(pair, name+"="); ok {
				return value, true
			}
		}
		return "", false
	}})
	if err != nil || child.Context.RunID != "run-1" {
		t.Fatalf("run %q, %v", child.Context.RunID, err)
	}
	child.Close(nil)
	if got := len(messagesIn(t, file)); got != 2 {
		t.Errorf("%d messages in the private file, want 2", got)
	}
	if got := len(l.received()); got != 1 {
		t.Errorf("%d messages to Dagster, want ours alone", got)
	}
}

// Text of another program is sent without secrets, in parts that fit a page.
func TestLogExternalStream(t *testing.T) {
	l := listen(t, pipestest.Context("a"))
	long := strings.Repeat("é", 100_000)
	for _, text := range []string{"one", "", "https://user:hush@h/", long} {
		if err := l.LogExternalStream(Stderr, text); err != nil {
			t.Fatal(err)
		}
	}
	if err := l.LogExternalStream("stdlog", "x"); err == nil || !strings.Contains(err.Error(), `invalid value "stdlog" for stream`) {
		t.Errorf("stdlog: %v", err)
	}
	got := ""
	for _, m := range l.received()[1:] {
		if m.Params["stream"] != "stderr" {
			t.Errorf("stream %v", m.Params["stream"])
		}
		got += fmt.Sprint(m.Params["text"])
	}
	if got != "onehttps://REDACTED@h/"+long {
		t.Errorf("sent %.100q...", got)
	}
}

// An error of another program keeps its name and its stack. An error that only repeats
// the text of its cause is left out.
func TestExceptionOfAnotherProgram(t *testing.T) {
	l := listen(t, pipestest.Context("a"))
	remote := &Exception{Name: "ValueError", Message: "no luck", Stack: []string{"  File x\n", "    y\n"}, Cause: errors.New("inner")}
	l.Close(retry.Permanent(fmt.Errorf("exit status 1: %w", retry.Permanent(remote))))
	var got []string
	for e := l.received()[1].Params["exception"]; e != nil; e = pipestest.Member(e, "cause") {
		got = append(got, fmt.Sprint(pipestest.Member(e, "name"), ": ", pipestest.Member(e, "message"), " ", pipestest.Member(e, "stack")))
	}
	want := []string{"fmt.wrapError: exit status 1: no luck []", "ValueError: no luck [  File x\n     y\n]", "errors.errorString: inner []"}
	if !slices.Equal(got, want) {
		t.Errorf("closed with %q, want %q", got, want)
	}
}

// The retries of a program that logs them itself are counted, too. When its attempts
// have opened the breaker, retry_after_s is the time until the breaker admits a call.
func TestCountRetries(t *testing.T) {
	synctest.Test(t, func(t *testing.T) {
		l := listen(t, pipestest.Context("a"))
		b := circuit.New("store", circuit.Config{FailureThreshold: 2, RecoveryTimeout: time.Minute, Observe: func(context.Context, circuit.Transition) {}})
		p := retry.Policy{Name: "upload", MaxAttempts: 2, Jitter: retry.NoJitter, Classify: retry.Always, Breaker: b, Observe: l.CountRetries(b)}
		err := retry.Do(t.Context(), &p, func(context.Context) error { return errors.New("down") })
		l.Close(err)
		received := l.received()
		compare(t, received[1:len(received)-1], []string{
			`report_custom_message {"payload":{"kind":"perdure/outcome","version":1,"outcome":"exhausted","attempts":2,"waited_s":1,
				"last_error":"down","breaker":{"name":"store","state":"open"},"retryable":true,"retry_after_s":60,"exit_code":1}}`,
		})
	})
}
