//go:build integration && linux

package dagster_test

import (
	"bytes"
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"io"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strconv"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/internal/servertest"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A webserver is `dagster dev` of a release, with its daemon: what a user starts.
type webserver struct {
	t   *testing.T
	url string
}

// guarded runs a command until the other end of descriptor 3 is closed: the test stops
// the command, or the test's process has ended in any way. Then guarded sends SIGINT to
// the command, and after 20 s SIGKILL to its process group.
const guarded = `{ read -r _; kill -INT $$; sleep 20; kill -KILL 0; } <&3 & exec "$@" 3<&-`

// startDagster starts the Dagster of a Python environment with two code locations, the
// example and testdata/others.py, and waits until both are loaded.
func startDagster(t *testing.T, venv string, environ ...string) *webserver {
	t.Helper()
	home := t.TempDir()
	settings, err := os.ReadFile("dagster.yaml")
	if err != nil {
		t.Fatal(err)
	}
	if err := os.WriteFile(filepath.Join(home, "dagster.yaml"), settings, 0o600); err != nil {
		t.Fatal(err)
	}
	log, err := os.Create(filepath.Join(home, "log"))
	if err != nil {
		t.Fatal(err)
	}
	port := freePort(t)
	w := &webserver{t: t, url: "http://127.0.0.1:" + port}
	end, alive, err := os.Pipe()
	if err != nil {
		t.Fatal(err)
	}
	dev := exec.Command("sh", "-c", guarded, "sh", //nolint:gosec // the command is fixed
		filepath.Join(venv, "bin", "dagster"), "dev", "-h", "127.0.0.1", "-p", port, "-f", "definitions.py", "-f", "testdata/others.py")
	dev.Stdout, dev.Stderr, dev.ExtraFiles = log, log, []*os.File{end}
	dev.SysProcAttr = &syscall.SysProcAttr{Setpgid: true}
	dev.Env = append(os.Environ(), "DAGSTER_HOME="+home, "PERDURE_STATE="+t.TempDir(), "PYTHONDONTWRITEBYTECODE=1",
		"DAGSTER_EVENT_LOG_CONSUMER_DAEMON_INTERVAL_SECONDS=1")
	dev.Env = append(dev.Env, environ...)
	if err := dev.Start(); err != nil {
		t.Fatal(err)
	}
	_ = end.Close()
	t.Cleanup(func() { w.stop(dev, alive, log) })
	w.wait("the code locations", 2*time.Minute, func() bool {
		return len(w.locations()) == 2
	})
	return w
}

// stop ends the Dagster, and shows its log if the test has failed.
func (w *webserver) stop(dev *exec.Cmd, alive io.Closer, log *os.File) {
	_ = alive.Close()
	_ = dev.Wait()                                      // ends after 20 s at the latest: see guarded
	_ = syscall.Kill(-dev.Process.Pid, syscall.SIGKILL) // orphans
	_ = log.Close()
	if text, err := os.ReadFile(log.Name()); err == nil && w.t.Failed() {
		lines := strings.Split(string(text), "\n")
		w.t.Logf("the end of the log of dagster dev:\n%s", strings.Join(lines[max(len(lines)-60, 0):], "\n"))
	}
}

func freePort(t *testing.T) string {
	t.Helper()
	port, err := servertest.FreePort()
	if err != nil {
		t.Fatal(err)
	}
	return strconv.Itoa(port)
}

// wait polls until holds returns true, and fails the test after the limit most.
func (w *webserver) wait(what string, most time.Duration, holds func() bool) {
	w.t.Helper()
	if !w.within(most, holds) {
		w.t.Fatalf("after %v still waiting for %s", most, what)
	}
}

// within polls until holds returns true, and reports whether that was within the limit
// most. Dagster is not polled more often than its web page does.
func (w *webserver) within(most time.Duration, holds func() bool) bool {
	w.t.Helper()
	ctx, cancel := context.WithTimeout(w.t.Context(), most)
	defer cancel()
	poll := &retry.Policy{
		MaxAttempts: retry.Unlimited, BaseDelay: 250 * time.Millisecond, MaxDelay: 250 * time.Millisecond, Jitter: retry.NoJitter,
		Classify: retry.Always, Observe: func(context.Context, retry.Event) {},
	}
	return retry.Do(ctx, poll, func(context.Context) error {
		if !holds() {
			return errors.New("not yet")
		}
		return nil
	}) == nil
}

// ask sends a query and decodes the data of the response, if the server is up.
func (w *webserver) ask(into any, query string, variables map[string]any) {
	w.t.Helper()
	text, err := json.Marshal(map[string]any{"query": query, "variables": variables})
	if err != nil {
		w.t.Fatal(err)
	}
	req, err := http.NewRequestWithContext(w.t.Context(), http.MethodPost, w.url+"/graphql", bytes.NewReader(text))
	if err != nil {
		w.t.Fatal(err)
	}
	req.Header.Set("Content-Type", "application/json")
	res, err := http.DefaultClient.Do(req)
	if err != nil {
		return
	}
	defer func() { _ = res.Body.Close() }()
	body, err := io.ReadAll(res.Body)
	if err != nil {
		return
	}
	response := struct {
		Data   any
		Errors json.RawMessage
	}{Data: into}
	if err := json.Unmarshal(body, &response); err != nil || response.Errors != nil {
		w.t.Fatalf("%s: %v: %s", query, err, body)
	}
}

func (w *webserver) locations() (names []string) {
	var d struct {
		RepositoriesOrError struct {
			Nodes []struct{ Location struct{ Name string } }
		}
	}
	w.ask(&d, `{repositoriesOrError{... on RepositoryConnection{nodes{location{name}}}}}`, nil)
	for _, n := range d.RepositoriesOrError.Nodes {
		names = append(names, n.Location.Name)
	}
	return names
}

// launch starts a run that materializes these assets, and returns its ID.
func (w *webserver) launch(location string, assets ...string) string {
	w.t.Helper()
	at := slices.IndexFunc(w.locations(), func(name string) bool { return strings.Contains(name, location) })
	if at < 0 {
		w.t.Fatalf("no code location %q among %q", location, w.locations())
	}
	selection := make([]map[string]any, len(assets))
	for i, name := range assets {
		selection[i] = map[string]any{"path": []string{name}}
	}
	var d struct {
		LaunchRun struct {
			Message string
			Run     struct{ RunID string }
		}
	}
	w.ask(&d, `mutation($p: ExecutionParams!){launchRun(executionParams: $p){... on LaunchRunSuccess{run{runId}} ... on Error{message}}}`,
		map[string]any{"p": map[string]any{"runConfigData": map[string]any{}, "selector": map[string]any{
			"repositoryName": "__repository__", "repositoryLocationName": w.locations()[at],
			"jobName": "__ASSET_JOB", "assetSelection": selection,
		}}})
	if d.LaunchRun.Run.RunID == "" {
		w.t.Fatalf("launch %q: %s", assets, d.LaunchRun.Message)
	}
	return d.LaunchRun.Run.RunID
}

// A run is the state of a run in Dagster.
type run struct {
	RunID, Status, JobName string
	Tags                   []struct{ Key, Value string }
}

func (r run) ended() bool {
	return slices.Contains([]string{"SUCCESS", "FAILURE", "CANCELED"}, r.Status)
}

func (r run) tag(key string) string {
	for _, t := range r.Tags {
		if t.Key == key {
			return t.Value
		}
	}
	return ""
}

// runs returns the latest runs.
func (w *webserver) runs() []run {
	w.t.Helper()
	var d struct{ RunsOrError struct{ Results []run } }
	w.ask(&d, `{runsOrError(limit: 100){... on Runs{results{runId status jobName tags{key value}}}}}`, nil)
	return d.RunsOrError.Results
}

// group returns a run and its retries.
func (w *webserver) group(id string) (all []run) {
	w.t.Helper()
	for _, r := range w.runs() {
		if r.RunID == id || r.tag("dagster/root_run_id") == id {
			all = append(all, r)
		}
	}
	return all
}

// repeated launches a run, and returns it with its retries when they are n runs.
// Dagster sometimes loses a retry: its daemon ignores a failure that it sees before
// the run has that status. Then repeated launches another run.
func (w *webserver) repeated(n int, launch func() string) (group []run) {
	w.t.Helper()
	for range 2 {
		id := launch()
		if w.within(4*time.Minute, func() bool {
			group = w.group(id)
			return len(group) >= n && !slices.ContainsFunc(group, func(r run) bool { return !r.ended() })
		}) {
			return group
		}
		w.t.Logf("after 4 minutes there are %d runs, want %d: %+v", len(group), n, group)
	}
	w.t.FailNow()
	return nil
}

// finish waits for the end of a run, and returns it with its events.
func (w *webserver) finish(id string) (r run, events []event) {
	w.t.Helper()
	w.wait("the end of run "+id, 3*time.Minute, func() bool {
		for _, r = range w.runs() {
			if r.RunID == id {
				return r.ended()
			}
		}
		return false
	})
	return r, w.events(id)
}

// An event is a line of a run's log.
type event struct {
	Typename                string `json:"__typename"`
	StepKey, Level, Message string
	EventType               string
	MetadataEntries         []entry
	AssetKey                struct{ Path []string }
	Error                   struct {
		Message string
		Cause   struct{ Message string }
	}
	FailureMetadata struct{ MetadataEntries []entry }
	Evaluation      struct {
		Success         bool
		MetadataEntries []entry
	}
}

// An entry is a value of a report's metadata, in the field of its kind.
type entry struct {
	Label, Text, JSONString, URL, Path string
	IntValue                           int
	FloatValue                         float64
	Schema                             struct{ Columns []struct{ Name, Type string } }
}

func (e event) metadata(label string) entry {
	for _, m := range slices.Concat(e.MetadataEntries, e.FailureMetadata.MetadataEntries, e.Evaluation.MetadataEntries) {
		if m.Label == label {
			return m
		}
	}
	return entry{}
}

const metadataFields = `metadataEntries{label ... on TextMetadataEntry{text} ... on IntMetadataEntry{intValue}
	... on FloatMetadataEntry{floatValue} ... on JsonMetadataEntry{jsonString} ... on UrlMetadataEntry{url} ... on PathMetadataEntry{path}
	... on TableSchemaMetadataEntry{schema{columns{name type}}}}`

// events returns the log of a run, and checks that Dagster could read all messages.
func (w *webserver) events(id string) []event {
	w.t.Helper()
	var d struct {
		LogsForRun struct{ Events []event }
	}
	w.ask(&d, fmt.Sprintf(`query($id: ID!){logsForRun(runId: $id){... on EventConnection{events{__typename
		... on MessageEvent{stepKey level message eventType}
		... on MaterializationEvent{assetKey{path} %[1]s}
		... on AssetCheckEvaluationEvent{evaluation{success %[1]s}}
		... on ExecutionStepFailureEvent{error{message cause{message}} failureMetadata{%[1]s}}
		... on ExecutionStepUpForRetryEvent{error{message cause{message}}}}}}}`, metadataFields), map[string]any{"id": id})
	for _, e := range d.LogsForRun.Events {
		for _, bad := range []string{"framework exception", "did not receive", "after closed"} {
			if strings.Contains(e.Message, bad) {
				w.t.Errorf("run %s: %s", id, e.Message)
			}
		}
	}
	return d.LogsForRun.Events
}

// breakersShown returns the metadata of the latest failed evaluations of the check
// servers_reachable.
func (w *webserver) breakersShown() (shown []string) {
	w.t.Helper()
	var d struct {
		AssetCheckExecutions []struct {
			Evaluation *struct {
				Success         bool
				MetadataEntries []entry
			}
		}
	}
	w.ask(&d, `query{assetCheckExecutions(assetKey: {path: ["stations"]}, checkName: "servers_reachable", limit: 5){
		evaluation{success `+metadataFields+`}}}`, nil)
	for _, e := range d.AssetCheckExecutions {
		if e.Evaluation != nil && !e.Evaluation.Success {
			shown = append(shown, e.Evaluation.MetadataEntries[0].JSONString)
		}
	}
	return shown
}
