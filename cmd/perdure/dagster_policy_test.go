//go:build unix

package main

import (
	"net/http"
	"net/http/httptest"
	"os"
	"path/filepath"
	"strings"
	"sync/atomic"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/exit"
	"github.com/seed-0f2c7998/perdure/internal/pipestest"
)

// retriedStep returns a step that was run n times before.
func retriedStep(t *testing.T, n int, extras dict) *dagsterStep {
	t.Helper()
	c := pipestest.Context("my_asset")
	c["retry_number"], c["extras"] = n, extras
	return newStepWith(t, c, nil)
}

// Each retry of the step halves the attempts, unless the user has set their number. The
// step's extras take precedence.
func TestDagsterAttemptsOfARetriedStep(t *testing.T) {
	for _, test := range []struct {
		before int
		extras dict
		args   string
		want   int
	}{
		{0, nil, "", 5},
		{1, nil, "", 2},
		{2, nil, "", 1},
		{3, nil, "", 1},
		{99, nil, "", 1},
		{1, nil, "--preset s3_heavy", 1},
		{1, nil, "--max-attempts 4", 4},
		{0, dict{"perdure": dict{"max_attempts": 3}}, "--max-attempts 4", 3},
		{2, dict{"perdure": dict{"max_attempts": "3"}}, "", 3},
		{0, dict{"perdure": dict{"run_retry": "1"}}, "", 2},
		{1, dict{"perdure": dict{"run_retry": 1}}, "", 1},
		{0, dict{"perdure": dict{"run_retry": nil, "max_attempts": nil}}, "", 5},
		{0, dict{"perdure": dict{"retry_on": []string{"default", "timeout"}, "respect_retry_after": false, "max_attempts": 2}}, "", 2},
		{0, dict{"perdure": dict{"preset": "api_call"}}, "--preset s3_upload", 3},
		{0, dict{"else": 1}, "", 5},
	} {
		s := retriedStep(t, test.before, test.extras)
		out, _ := s.run(1, append(append([]string{"run"}, strings.Fields(test.args)...), "--", "sh", "-c", "echo $PERDURE_ATTEMPT; exit 1")...)
		if got := strings.Count(out, "\n"); got != test.want {
			t.Errorf("retry %d, extras %v, %q: %d attempts, want %d", test.before, test.extras, test.args, got, test.want)
		}
		s.wantOutcome(dict{"attempts": test.want})
	}
	s := retriedStep(t, 2, nil)
	s.run(0, "run", "--", "true")
	s.wantLogged("INFO Re-run 2: max_attempts is divided by 2 for each re-run, unless it is set")
}

// Invalid extras are refused before the first attempt.
func TestDagsterWrongExtras(t *testing.T) {
	for want, value := range map[string]any{
		`invalid value 3 for extras.perdure: must be an object, as {"max_attempts": 3}`:                             3,
		`invalid value "max_atempts" for extras.perdure: must be one of `:                                           dict{"max_atempts": 3},
		`invalid value "0" for extras.perdure.max_attempts: must be a whole number of at least 1, or unlimited`:     dict{"max_attempts": 0},
		`invalid value {"a":1} for extras.perdure.max_attempts: must be a whole number of at least 1, or unlimited`: dict{"max_attempts": dict{"a": 1}},
		`invalid value -1 for extras.perdure.run_retry: must be the number of a retry, from 0, or null`:             dict{"run_retry": -1},
		`invalid value "soon" for extras.perdure.base_delay: must be `:                                              dict{"base_delay": "soon"},
	} {
		for _, args := range [][]string{{"run", "--", "touch", "tried"}, {"copy", "/dev/null", "tried"}} {
			s := retriedStep(t, 0, dict{"perdure": value})
			_, errs := s.run(64, args...)
			if !strings.Contains(errs, want) {
				t.Errorf("%v: %s\nwant %s", value, errs, want)
			}
			if _, err := os.Stat(filepath.Join(s.dir, "tried")); err == nil {
				t.Errorf("%v: %v was done", value, args)
			}
			s.wantOutcome(dict{"outcome": "permanent", "retryable": false, "exit_code": 64})
		}
	}
}

// A dead server gets the attempts of the first run of the step, and of each retry of the
// step one probe, if the breaker admits it.
func TestDagsterRequestsOnADeadServer(t *testing.T) {
	var requests atomic.Int64
	server := httptest.NewServer(http.HandlerFunc(func(w http.ResponseWriter, _ *http.Request) {
		requests.Add(1)
		w.WriteHeader(http.StatusServiceUnavailable)
	}))
	defer server.Close()
	state := t.TempDir()
	for n := range 4 {
		before, code := requests.Load(), exit.TryLater
		eventually(t, "the breaker lets it pass", func() bool {
			s := retriedStep(t, n, nil)
			c := command(t, append(s.environ, "PERDURE_STATE="+state), "run", "--name", "stations", "--recovery-timeout", "0.2", "--", "fetch", server.URL)
			_ = c.Run() // the code tells
			code = c.ProcessState.ExitCode()
			return code != exit.TryLater
		})
		want := int64(1)
		if n == 0 {
			want = 5
		}
		if got := requests.Load() - before; got != want || code != 1 {
			t.Errorf("retry %d: %d requests, want %d; exit code %d", n, got, want, code)
		}
	}
}

// The step's extras choose a policy of the file, before the flag, that before the
// environment, and that before the name of the step's only asset.
func TestDagsterChoosesAPolicyOfTheFile(t *testing.T) {
	file := filepath.Join(t.TempDir(), "policies.yaml")
	text := "policies: {default: {jitter: 0, base_delay: 0.001, max_attempts: 5}, my_asset: {max_attempts: 2}, fetch: {max_attempts: 3}, load: {max_attempts: 4}}\nstore: memory\n"
	if err := os.WriteFile(file, []byte(text), 0o600); err != nil {
		t.Fatal(err)
	}
	for _, row := range []struct {
		asset  string
		extras dict
		env    string
		args   string
		want   int
	}{
		{"my_asset", nil, "", "", 2},
		{"other", nil, "", "", 5},
		{"my_asset", nil, "fetch", "", 3},
		{"my_asset", nil, "fetch", "--policy load", 4},
		{"my_asset", dict{"perdure": dict{"policy": "fetch"}}, "", "--policy load", 3},
		{"my_asset", dict{"perdure": dict{"policy": "fetch", "max_attempts": 1}}, "", "", 1},
		{"my_asset", dict{"perdure": dict{"policy": nil}}, "", "", 2},
	} {
		t.Setenv("PERDURE_POLICY", row.env)
		c := pipestest.Context(row.asset)
		c["extras"] = row.extras
		s := newStepWith(t, c, nil)
		args := append([]string{"run", "--config", file}, strings.Fields(row.args)...)
		out, _ := s.run(1, append(args, "--", "sh", "-c", "echo $PERDURE_ATTEMPT; exit 1")...)
		if got := strings.Count(out, "\n"); got != row.want {
			t.Errorf("%s, extras %v, %q, %q: %d attempts, want %d", row.asset, row.extras, row.env, row.args, got, row.want)
		}
	}
	s := retriedStep(t, 0, dict{"perdure": dict{"policy": "fetsh"}})
	if _, text := s.run(64, "run", "--config", file, "--", "true"); !strings.Contains(text, `invalid value "fetsh" for extras.perdure.policy: `) {
		t.Errorf("%s", text)
	}
}
