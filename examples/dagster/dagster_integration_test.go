//go:build integration && linux

package dagster_test

import (
	"bytes"
	"encoding/json"
	"fmt"
	"net/http"
	"os"
	"os/exec"
	"path/filepath"
	"slices"
	"strings"
	"sync/atomic"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// bucket is the bucket in definitions.py.
const bucket = "bike-data-bucket"

// How the programs retry in this test. A breaker stays open for long enough to start
// a step.
const (
	attempts = 5
	open     = 6 * time.Second
)

// A world is a release of Dagster that runs the example, and the servers of the
// example, which fail on demand.
type world struct {
	*webserver

	api    *httptestfault.Server
	store  *s3test.Server
	script atomic.Pointer[httptestfault.Script] // of the API, from the next request on
	rides  int                                  // records in the file of rides

	programsDir string
	survived    string // the run that survived faults
}

func newWorld(t *testing.T, venv string) *world {
	t.Helper()
	w := &world{}
	w.api = httptestfault.New(func(n int, r *http.Request) httptestfault.Response { return (*w.script.Load())(n, r) })
	t.Cleanup(w.api.Close)
	w.store = s3test.Start(t, s3test.Options{Buckets: []string{bucket}})
	file, rides := ridesCSV(t)
	w.rides = rides
	w.programsDir = t.TempDir()
	if out, err := exec.CommandContext(t.Context(), "go", "build", "-o", w.programsDir, "../bikes", "../../cmd/perdure").CombinedOutput(); err != nil { //nolint:gosec // a directory of the test
		t.Fatalf("go build: %v\n%s", err, out)
	}
	python, err := filepath.Abs(filepath.Join("..", "..", "python"))
	if err != nil {
		t.Fatal(err)
	}
	w.webserver = startDagster(t, venv, "PYTHONPATH="+python, "PATH="+w.programsDir+":"+filepath.Join(venv, "bin")+":"+os.Getenv("PATH"),
		"STATIONS_URL="+w.api.URL+"/stations", "RIDES_CSV="+file,
		"AWS_ENDPOINT_URL="+w.store.URL, "AWS_ACCESS_KEY_ID="+w.store.AccessKey, "AWS_SECRET_ACCESS_KEY="+w.store.SecretKey,
		fmt.Sprint("PERDURE_MAX_ATTEMPTS=", attempts), "PERDURE_BASE_DELAY=0.01", "PERDURE_JITTER=0",
		fmt.Sprint("PERDURE_RECOVERY_TIMEOUT=", open.Seconds()))
	return w
}

// ridesCSV returns the path of the file of rides, and its number of records.
func ridesCSV(t *testing.T) (path string, records int) {
	t.Helper()
	dir := os.Getenv("PERDURE_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data", "bike-sharing")
	}
	text, err := os.ReadFile(filepath.Join(dir, "hour.csv")) //nolint:gosec // a file of the data set
	if err != nil {
		t.Logf("SKIPPED: the UCI data set (PERDURE_TESTDATA names its directory): %v: with a sample instead", err)
		dir = filepath.Join("..", "bikes", "testdata")
		if text, err = os.ReadFile(filepath.Join(dir, "hour.csv")); err != nil { //nolint:gosec // as above
			t.Fatal(err)
		}
	}
	if path, err = filepath.Abs(filepath.Join(dir, "hour.csv")); err != nil {
		t.Fatal(err)
	}
	return path, bytes.Count(bytes.TrimSpace(text), []byte("\n"))
}

// respond sets the responses of the API to the next requests; the last one serves all
// further requests. It returns a function that counts the requests since.
func (w *world) respond(steps ...httptestfault.Response) func() int {
	before := len(w.api.Requests())
	script := httptestfault.Script(func(n int, _ *http.Request) httptestfault.Response {
		return steps[min(n-before, len(steps))-1]
	})
	w.script.Store(&script)
	return func() int { return len(w.api.Requests()) - before }
}

// page returns the last page, of three stations.
func page() httptestfault.Response {
	return httptestfault.Response{Body: []byte(`{"page": 1, "pages": 1, "stations": [
		{"id": 31000, "name": "Mill Street", "district": 1, "lat": 38.9, "lon": -77.0, "docks": 15, "bikes": 4},
		{"id": 31001, "name": "Tower Bridge", "district": 2, "lat": 38.8, "lon": -77.1, "docks": 11, "bikes": 0},
		{"id": 31002, "name": "Caf\u00e9 am Markt", "district": 2, "lat": 38.8, "lon": -77.1, "docks": 19, "bikes": 19}]}`)}
}

func status(code int) httptestfault.Response { return httptestfault.Response{Status: code} }

// TestPipeline runs the example in real Dagsters as a user does: `dagster dev`, its
// daemon, a process for each step, three retries of a step and three of a run. All
// assertions read Dagster's API.
func TestPipeline(t *testing.T) {
	venvs := filepath.SplitList(os.Getenv("PERDURE_TEST_DAGSTER"))
	if len(venvs) == 0 {
		t.Skip("PERDURE_TEST_DAGSTER does not name Python environments with Dagster (`make integration` installs them)")
	}
	for _, venv := range venvs {
		t.Run(filepath.Base(venv), func(t *testing.T) {
			t.Parallel()
			w := newWorld(t, venv)
			for _, c := range []struct {
				name string
				test func()
			}{
				{"faults are lines of the log", w.faults},
				{"the page of that run", w.photographed},
				{"a permanent failure is one request", w.permanent},
				{"a run is retried for other steps only", w.settled},
				{"a step comes back when its breaker lets it", w.comesBack},
				{"a cancelled step leaves nothing behind", w.cancelled},
				{"a dead server", w.dead},
			} {
				start := time.Now()
				t.Run(c.name, func(t *testing.T) {
					w.t = t
					c.test()
				})
				t.Logf("%.0f s for %s", time.Since(start).Seconds(), c.name)
				w.t = t
			}
		})
	}
}

func (w *world) faults() {
	t := w.t
	w.respond(status(503), httptestfault.Response{Status: 429, Header: http.Header{"Retry-After": {"1"}}}, page())
	w.store.SetScript(s3test.Rules(
		s3test.Rule{Method: "PUT", Prefix: "/" + bucket + "/rides", Nth: []int{1, 2}, Fault: s3test.SlowDown()},
		s3test.Rule{Method: "PUT", Prefix: "/" + bucket + "/processed/", Nth: []int{1}, Fault: s3test.LostResponse()},
	))
	id := w.launch("definitions", "stations", "stations_page", "rides", "processed_bike_data", "station_report")
	r, events := w.finish(id)
	w.survived = id
	if r.Status != "SUCCESS" {
		t.Errorf("the run ended with %s", r.Status)
	}
	var retries, made []string
	for _, e := range events {
		if strings.HasPrefix(e.Message, "Retrying ") {
			retries = append(retries, e.StepKey+": "+e.Message)
		}
		if e.Typename == "MaterializationEvent" {
			made = append(made, e.StepKey)
			w.checkMade(e, id)
		}
	}
	slices.Sort(made)
	if want := []string{"processed_bike_data", "rides", "station_report", "stations", "stations_page"}; !slices.Equal(made, want) {
		t.Errorf("materialized: %q, want %q", made, want)
	}
	// Two of the API, whichever of the two steps is first, two for rides, one for a lost response.
	if len(retries) != 5 {
		t.Errorf("%d retries in the log, want 5: %q", len(retries), retries)
	}
	if want := "rides: Retrying upload_to_s3 in 0.020 seconds (attempt 2/5)"; !slices.ContainsFunc(retries, func(s string) bool { return strings.HasPrefix(s, want) }) {
		t.Errorf("no %q among %q", want, retries)
	}
	if checks := checks(events); len(checks) != 2 || !checks[0].Evaluation.Success || !checks[1].Evaluation.Success {
		t.Errorf("checks: %+v, want riders_add_up and servers_reachable, passed", checks)
	}
}

// checkMade compares the metadata of a materialization with the object in the store.
func (w *world) checkMade(e event, id string) {
	w.t.Helper()
	keys := map[string]string{
		"stations": "stations.parquet", "rides": "rides.parquet",
		"stations_page": "raw/stations.json", "processed_bike_data": "processed/" + id + ".parquet",
	}
	key, stored := keys[e.StepKey]
	if !stored {
		return // perdure run does not know what its command makes
	}
	object, ok := w.store.Object(bucket, key)
	if got := e.metadata("bytes").IntValue; !ok || got != len(object) {
		w.t.Errorf("%s: reported %d bytes, there are %d at %s", e.StepKey, got, len(object), key)
	}
	if got := e.metadata("destination").Text; got != "s3://"+bucket+"/"+key {
		w.t.Errorf("%s: destination %q", e.StepKey, got)
	}
	if e.metadata("checksum").Text == "" || e.metadata("attempts").IntValue < 1 {
		w.t.Errorf("%s: metadata %+v, want a checksum and attempts", e.StepKey, e.MetadataEntries)
	}
	rows := map[string]int{"stations": 3, "rides": w.rides}
	if got := e.metadata("dagster/row_count").IntValue; got != rows[e.StepKey] {
		w.t.Errorf("%s: %d rows, want %d", e.StepKey, got, rows[e.StepKey])
	}
	if columns := e.metadata("dagster/column_schema").Schema.Columns; e.StepKey == "rides" && (len(columns) != 12 || columns[0].Name != "start") {
		w.t.Errorf("rides: columns %+v", columns)
	}
}

func checks(events []event) []event {
	return slices.DeleteFunc(slices.Clone(events), func(e event) bool { return e.Typename != "AssetCheckEvaluationEvent" })
}

// ofKind returns the positions of a step's events of that type.
func ofKind(events []event, step, typename string) (at []int) {
	for i, e := range events {
		if e.StepKey == step && e.Typename == typename {
			at = append(at, i)
		}
	}
	return at
}

// permanent: the API does not have the page, and the store denies writes.
func (w *world) permanent() {
	t := w.t
	requests := w.respond(status(404))
	w.store.Reset()
	w.store.Deny("/" + bucket + "/rides")
	r, events := w.finish(w.launch("definitions", "stations", "rides"))
	w.store.Deny()
	puts := w.store.Count(http.MethodPut, "")
	if r.Status != "FAILURE" || requests() != 1 || puts != 1 {
		t.Errorf("%s after %d requests and %d puts, want FAILURE after 1 and 1", r.Status, requests(), puts)
	}
	for step, want := range map[string]string{"stations": "404", "rides": "AccessDenied"} {
		if starts := ofKind(events, step, "ExecutionStepStartEvent"); len(starts) != 1 {
			t.Errorf("%s was started %d times", step, len(starts))
		}
		if o := outcome(t, events, step); o.Outcome != "permanent" || o.Retryable || !strings.Contains(o.LastError, want) {
			t.Errorf("%s: outcome %+v, want a permanent error with %s", step, o, want)
		}
	}
	if got := r.tag("dagster/will_retry"); got == "true" {
		t.Error("the run is to be retried")
	}
	t.Logf("COUNT %s: permanent failure: %d request to the API, %d to the store, with 3 retries of the step and 3 of the run allowed",
		t.Name(), requests(), puts)
}

// settled: of two steps in a run, one fails permanently and the other temporarily. The
// run is retried for the other step. The first step costs no further request, and no
// run after the one that leaves only that step.
func (w *world) settled() {
	t := w.t
	var requests func() int
	group := w.repeated(3, func() string {
		requests = w.respond(status(404))
		return w.launch("others", "missing", "flaky")
	})
	made, last := 0, ""
	for _, r := range group {
		made += len(ofKind(w.events(r.RunID), "flaky", "MaterializationEvent"))
		if r.tag("dagster/will_retry") != "true" {
			last += r.tag("dagster/retry_number")
		}
	}
	if requests() != 1 || made != 1 || last != "2" {
		t.Errorf("%d requests, %d materializations of the other step, repetition %q was the last, want 1, 1 and 2: %+v", requests(), made, last, group)
	}
}

// An outcomeMessage is the outcome that run_step adds to a failure.
type outcomeMessage struct {
	Outcome   string
	Attempts  int
	LastError string `json:"last_error"`
	Retryable bool
}

func outcome(t *testing.T, events []event, step string) (o outcomeMessage) {
	t.Helper()
	for _, at := range ofKind(events, step, "ExecutionStepFailureEvent") {
		if err := json.Unmarshal([]byte(events[at].metadata("outcome").JSONString), &o); err != nil {
			t.Errorf("outcome of %s: %v: %+v", step, err, events[at])
		}
	}
	return o
}

// comesBack: the API is down until the breaker opens, and then works again.
func (w *world) comesBack() {
	t := w.t
	down := slices.Repeat([]httptestfault.Response{status(503)}, attempts)
	requests := w.respond(append(down, page())...)
	r, events := w.finish(w.launch("definitions", "stations"))
	if r.Status != "SUCCESS" || requests() != attempts+1 {
		t.Errorf("%s after %d requests, want SUCCESS after %d", r.Status, requests(), attempts+1)
	}
	if again := ofKind(events, "stations", "ExecutionStepRestartEvent"); len(again) != 1 {
		t.Errorf("the step was started again %d times, want once", len(again))
	}
}

func (w *world) cancelled() {
	t := w.t
	requests := w.respond(httptestfault.Response{Fault: httptestfault.Fault{Kind: httptestfault.Hang}})
	id := w.launch("definitions", "stations")
	w.wait("the request", time.Minute, func() bool { return requests() == 1 })
	if n := w.programs(); n == 0 {
		t.Fatal("the program does not run")
	}
	start := time.Now()
	w.ask(&struct{}{}, `mutation($id: String!){terminateRun(runId: $id){__typename}}`, map[string]any{"id": id})
	r, events := w.finish(id)
	if r.Status != "CANCELED" {
		t.Errorf("the run ended with %s", r.Status)
	}
	if !slices.ContainsFunc(events, func(e event) bool { return strings.Contains(e.Message, "external process pipes closed with exception") }) {
		t.Error("the program has not reported how it ended")
	}
	w.wait("the end of the program", 10*time.Second, func() bool { return w.programs() == 0 })
	t.Logf("cancelled within %.1f s", time.Since(start).Seconds())
}

// dead: the API responds with 503 only. Two steps call it, and share its breaker and a
// pool of one slot. A step without run_step shows how often Dagster retries by itself.
func (w *world) dead() {
	t := w.t
	requests := w.respond(status(503))
	id := w.launch("definitions", "stations", "stations_page")
	r, events := w.finish(id)
	got, starts := requests(), 0
	for i, step := range []string{"stations", "stations_page"} {
		other := []string{"stations_page", "stations"}[i]
		first := ofKind(events, step, "ExecutionStepStartEvent")
		again := ofKind(events, step, "ExecutionStepRestartEvent")
		starts += len(first) + len(again)
		waiting := ofKind(events, step, "ExecutionStepUpForRetryEvent")
		begun := ofKind(events, other, "ExecutionStepStartEvent")
		if len(first) != 1 || len(again) != 3 || len(begun) != 1 {
			t.Fatalf("%s: %d starts and %d restarts, want 1 and 3: %+v", step, len(first), len(again), events)
		}
		if first[0] < begun[0] && (begun[0] < waiting[0] || begun[0] > again[0]) {
			t.Errorf("%s did not get the pool's slot while %s waited for its retry", other, step)
		}
	}
	if most := attempts + starts - 1; r.Status != "FAILURE" || got > most {
		t.Errorf("%s after %d requests, want FAILURE after at most %d: %d attempts, and one probe for each other start of a step", r.Status, got, most, attempts)
	}
	for _, step := range []string{"stations", "stations_page"} {
		if o := outcome(t, events, step); o.Attempts > 1 || !o.Retryable {
			t.Errorf("%s: outcome %+v, want a probe at most, and another try later", step, o)
		}
	}
	w.checkShown()

	naive := w.repeated(4, func() string {
		requests = w.respond(status(503))
		return w.launch("others", "naive_page")
	})
	t.Logf("COUNT %s: dead server: %d requests for both steps of the run (%d starts); without run_step %d for one step (%d runs)",
		t.Name(), got, starts, requests(), len(naive))
	if both := 2 * requests(); both < 3*got {
		t.Errorf("%d requests without run_step, if two steps made them: this test shows nothing", both)
	}
	if group := w.group(id); len(group) != 1 {
		// Dagster writes all of a run's tags when one is added: the tag that forbids to retry the run can get lost.
		t.Logf("the run was retried, so another run is launched: %+v", group)
		if r, _ := w.finish(w.launch("definitions", "stations", "stations_page")); r.tag("dagster/will_retry") == "true" {
			t.Errorf("the next run is to be retried, too: %+v", r)
		}
	}
}

// checkShown waits until the sensor has reported the open breaker.
func (w *world) checkShown() {
	w.t.Helper()
	w.wait("the check that finds the open breaker", time.Minute, func() bool {
		return slices.ContainsFunc(w.breakersShown(), func(text string) bool { return strings.Contains(text, "http:"+w.api.URL) })
	})
}

// programs returns the number of processes of the programs that the world has built.
func (w *world) programs() (n int) {
	w.t.Helper()
	processes, err := filepath.Glob("/proc/[0-9]*/exe")
	if err != nil || len(processes) == 0 {
		w.t.Fatalf("no processes to be seen in /proc (%v)", err)
	}
	for _, p := range processes {
		if exe, err := os.Readlink(p); err == nil && filepath.Dir(exe) == w.programsDir {
			n++
		}
	}
	return n
}
