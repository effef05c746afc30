package main

import (
	"bytes"
	"context"
	"encoding/json"
	"net/http"
	"os"
	"path/filepath"
	"strings"
	"testing"
	"time"

	"github.com/parquet-go/parquet-go"

	"github.com/seed-0f2c7998/perdure/httpretry/httptestfault"
	"github.com/seed-0f2c7998/perdure/pipes"
	"github.com/seed-0f2c7998/perdure/s3test"
)

// newStore starts a store, and sets the environment for the store and for short waits.
func newStore(t *testing.T) *s3test.Server {
	t.Helper()
	store := s3test.Start(t, s3test.Options{Buckets: []string{"bikes"}})
	for name, value := range map[string]string{
		"AWS_ENDPOINT_URL": store.URL, "AWS_ACCESS_KEY_ID": store.AccessKey, "AWS_SECRET_ACCESS_KEY": store.SecretKey,
		"AWS_CONFIG_FILE": os.DevNull, "AWS_SHARED_CREDENTIALS_FILE": os.DevNull,
		"PERDURE_STATE": t.TempDir(), "PERDURE_BASE_DELAY": "0.001", "PERDURE_JITTER": "0",
	} {
		t.Setenv(name, value)
	}
	return store
}

// bikes runs the program as main does, without Dagster.
func bikes(args ...string) error {
	return run(context.Background(), &pipes.Session{}, args)
}

func table[T any](t *testing.T, store *s3test.Server, key string) []T {
	t.Helper()
	body, _ := store.Object("bikes", key)
	rows, err := parquet.Read[T](bytes.NewReader(body), int64(len(body)))
	if err != nil {
		t.Fatal(err)
	}
	return rows
}

func TestStationsOutlastFaults(t *testing.T) {
	store := newStore(t)
	store.SetScript(s3test.Rules(s3test.Rule{Method: http.MethodPut, Nth: []int{1}, Fault: s3test.SlowDown()}))
	first := httptestfault.Response{Body: []byte(`{"stations": [{"id": 1, "name": "Mill", "bikes": 3}], "next": "/stations?page=2"}`)}
	second := httptestfault.Response{Body: []byte(`{"stations": [{"id": 2, "name": "Quay", "docks": 15}]}`)}
	api := httptestfault.New(httptestfault.Responses(
		httptestfault.Response{Status: 503}, first, second.With(httptestfault.ResetBody(20)), second))
	defer api.Close()
	if err := bikes("stations", "-api", api.URL+"/stations", "-to", "s3://bikes/stations.parquet"); err != nil {
		t.Fatal(err)
	}
	got := table[station](t, store, "stations.parquet")
	want := []station{{ID: 1, Name: "Mill", Bikes: 3}, {ID: 2, Name: "Quay", Docks: 15}}
	if len(got) != 2 || got[0] != want[0] || got[1] != want[1] {
		t.Errorf("%+v, want %+v", got, want)
	}
	if n := store.Count(http.MethodPut, ""); n != 2 {
		t.Errorf("%d puts, want 2", n)
	}
}

func TestAPermanentFailureIsOneRequest(t *testing.T) {
	store := newStore(t)
	for name, response := range map[string]httptestfault.Response{
		"not found":    {Status: 404},
		"not JSON":     {Body: []byte("<html>")},
		"a moved page": {Status: 304},
		"a bad next":   {Body: []byte(`{"next": ":"}`)},
	} {
		api := httptestfault.New(httptestfault.Responses(response))
		err := bikes("stations", "-api", api.URL, "-to", "s3://bikes/stations.parquet")
		if got := (&pipes.Session{}).Outcome(err); err == nil || got.Retryable || len(api.Requests()) != 1 {
			t.Errorf("%s: %v: outcome %+v after %d requests, want a permanent error after 1", name, err, got, len(api.Requests()))
		}
		api.Close()
	}
	if keys := store.Keys("bikes"); len(keys) > 0 {
		t.Errorf("stored %q", keys)
	}
}

func TestRides(t *testing.T) {
	store := newStore(t)
	if err := bikes("rides", "-from", "testdata/hour.csv", "-to", "s3://bikes/rides.parquet"); err != nil {
		t.Fatal(err)
	}
	rows := table[ride](t, store, "rides.parquet")
	if len(rows) != 48 {
		t.Fatalf("%d rows, want 48", len(rows))
	}
	r := rows[1]
	if want := time.Date(2030, 5, 1, 1, 0, 0, 0, time.UTC); !r.Start.Equal(want) {
		t.Errorf("start %v, want %v", r.Start, want)
	}
	if r.Season != "summer" || !r.Holiday || r.WorkingDay || r.Casual+r.Registered != r.Total {
		t.Errorf("row %+v", r)
	}
}

// TestRealRides reads the UCI Bike Sharing data set: Fanaee-T and Gama, "Event
// labeling combining ensemble detectors and background knowledge", Progress in
// Artificial Intelligence (2013), doi:10.1007/s13748-013-0040-3.
func TestRealRides(t *testing.T) {
	dir := os.Getenv("PERDURE_TESTDATA")
	if dir == "" {
		dir = filepath.Join("..", "..", "..", "shared", "data", "bike-sharing")
	}
	for file, rows := range map[string]int{"hour.csv": 17379, "day.csv": 731} {
		f, err := os.Open(filepath.Join(dir, file)) //nolint:gosec // a file of the data set
		if err != nil {
			t.Skipf("SKIPPED: the UCI data set (PERDURE_TESTDATA names its directory): %v", err)
		}
		defer func() { _ = f.Close() }()
		all, err := readRides(f)
		if err != nil {
			t.Fatal(err)
		}
		total := 0
		for _, r := range all {
			total += int(r.Total)
		}
		if first := all[0].Start; len(all) != rows || total != 3292679 || !first.Equal(time.Date(2011, 1, 1, 0, 0, 0, 0, time.UTC)) {
			t.Errorf("%s: %d rows with %d rentals from %v on, want %d, 3292679 and 2011-01-01", file, len(all), total, first, rows)
		}
	}
}

func TestWhatIsWrong(t *testing.T) {
	newStore(t)
	csv := filepath.Join(t.TempDir(), "day.csv")
	if err := os.WriteFile(csv, []byte("dteday,season\n2011-13-01,1\n"), 0o600); err != nil {
		t.Fatal(err)
	}
	t.Setenv("PERDURE_MAX_DELAY", "soon")
	for _, row := range []struct{ args, want string }{
		{"", "no command: must be stations or rides"},
		{"trips", `invalid value "trips" for command: must be stations or rides`},
		{"rides -from x.csv -to bikes/x", "want s3://BUCKET/KEY"},
		{"rides -from x.csv -to s3://bikes/x/", "want s3://BUCKET/KEY"},
		{"rides -to s3://bikes/x", "want -to and either -api or -from"},
		{"rides -from x.csv -to s3://bikes/x", `invalid value "soon" for max_delay`},
	} {
		if err := bikes(strings.Fields(row.args)...); err == nil || !strings.Contains(err.Error(), row.want) {
			t.Errorf("bikes %s: %v, want %q", row.args, err, row.want)
		}
	}
	t.Setenv("PERDURE_MAX_DELAY", "1")
	want := `record 1: dteday "2011-13-01": want a date`
	if err := bikes("rides", "-from", csv, "-to", "s3://bikes/x"); err == nil || !strings.Contains(err.Error(), want) {
		t.Errorf("%v, want %q", err, want)
	}
}

// Each retry of the step, and of the run, halves the attempts. The step's extras take
// precedence.
func TestAttemptsOfARetriedStep(t *testing.T) {
	newStore(t)
	for _, row := range []struct {
		before int
		extra  string // the extra "perdure"; "" if the step has none
		want   int    // requests
	}{
		{0, "", 5},
		{1, "", 2},
		{2, "", 1},
		{1000, "", 1},
		{0, `{"run_retry": null}`, 5},
		{0, `{"run_retry": "1"}`, 2},
		{1, `{"run_retry": 1}`, 1},
		{1, `{"run_retry": "1", "max_attempts": 3}`, 3},
		{0, `{"run_retry": "soon"}`, 0},
		{0, `{"run_retry": -1}`, 0},
		{0, `5`, 0},
		{0, `{"max_atempts": 3}`, 0},
	} {
		t.Setenv("PERDURE_STATE", t.TempDir())
		api := httptestfault.New(httptestfault.Responses(httptestfault.Response{Status: 503}))
		s := &pipes.Session{Context: pipes.Context{RetryNumber: row.before}}
		if row.extra != "" {
			s.Context.Extras = map[string]json.RawMessage{"perdure": json.RawMessage(row.extra)}
		}
		err := run(t.Context(), s, []string{"stations", "-api", api.URL, "-to", "s3://bikes/stations.parquet"})
		if got := len(api.Requests()); err == nil || got != row.want {
			t.Errorf("retry %d, extra %s: %v after %d requests, want %d", row.before, row.extra, err, got, row.want)
		}
		api.Close()
	}
}
