package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"fmt"
	"strings"
	"syscall"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	"github.com/seed-0f2c7998/perdure/retry"
)

// A database's error, as those of pgx and lib/pq.
type sqlError string

func (e sqlError) Error() string    { return "ERROR: something (SQLSTATE " + string(e) + ")" }
func (e sqlError) SQLState() string { return string(e) }

// The lists choose: by code, by status, by SQLSTATE, by word. Ignore wins. What they do not choose is not retried and
// keeps its class, of which a code in ignore_on used to make a permanent error, and so a healthy service.
func TestLists(t *testing.T) {
	t.Parallel()
	slow, missing := &coded{code: "SlowDown", status: 503}, &coded{code: "NoSuchKey", status: 404}
	timeout, refused := context.DeadlineExceeded, error(syscall.ECONNREFUSED)
	serialization, syntax := sqlError("40001"), sqlError("42601")
	numbered, rushed := &coded{code: "503"}, &coded{code: "TransactionConflict", status: 400}
	list := func(names ...string) []string { return names }
	for _, c := range []struct {
		retryOn, ignoreOn []string
		err               error
		class             retry.Class
		retried           bool
	}{
		{nil, nil, missing, permanent, false},
		{nil, nil, slow, throttled, true},
		{list("NoSuchKey"), nil, missing, transient, true},
		{list("404"), nil, missing, transient, true},
		{list("4xx"), nil, missing, transient, true},
		{list("5xx"), nil, missing, permanent, false},
		{list("404"), list("NoSuchKey"), missing, permanent, false},
		{list("NoSuchKey"), list("404"), missing, permanent, false},
		{list("NoSuchKey"), list("4xx"), missing, permanent, false},
		{list("NoSuchkey", "405", "NOSUCHKEY"), nil, missing, permanent, false},
		{nil, list("503"), slow, throttled, false},
		{nil, list("5xx"), slow, throttled, false},
		{nil, list("SlowDown"), slow, throttled, false},
		{nil, list("throttled"), slow, throttled, false},
		{list("throttled"), nil, slow, throttled, true},
		{list("503"), nil, slow, throttled, true},
		{list("503"), list("throttled"), slow, throttled, false},
		{list("default"), list("throttled"), slow, throttled, false},
		{list("Mine"), nil, slow, throttled, false},
		{list("Mine"), nil, &coded{code: "Mine"}, transient, true},
		{list("default", "NoSuchBucket"), nil, slow, throttled, true},
		{list("default", "NoSuchBucket"), nil, missing, permanent, false},
		{list("default", "NoSuchKey"), nil, missing, transient, true},
		{nil, list("timeout"), timeout, transient, false},
		{list("timeout"), nil, timeout, transient, true},
		{list("timeout"), nil, refused, transient, false},
		{nil, list("connection"), timeout, transient, true},
		{nil, list("connection"), refused, transient, false},
		{list("connection"), list("timeout"), refused, transient, true},
		{nil, list("Other"), slow, throttled, true},
		{list("40001"), nil, serialization, conflict, true},
		{nil, list("40001"), serialization, conflict, false},
		{list("40P01"), nil, serialization, conflict, false},
		{list("conflict"), nil, serialization, conflict, true},
		{list("conflict"), nil, rushed, conflict, true},
		{list("conflict"), nil, slow, throttled, false},
		{nil, list("conflict"), serialization, conflict, false},
		{list("42601"), nil, syntax, transient, true},
		{list("5xx"), nil, numbered, transient, true},
		{nil, list("503"), numbered, transient, false},
		{list("Mine"), nil, errDown, unknown, false},
		{list("default"), nil, errDown, unknown, false},
		// A mark is above the lists.
		{list("Mine"), nil, retry.Transient(missing), transient, true},
		{nil, list("NoSuchKey"), retry.Transient(missing), transient, true},
		{list("NoSuchKey"), nil, retry.Permanent(missing), permanent, false},
		{list("NoSuchKey"), nil, retry.Final(missing), transient, false},
		{list("Mine"), nil, retry.After(missing, 1), throttled, true},
	} {
		retries(t, &retry.Policy{RetryOn: c.retryOn, IgnoreOn: c.ignoreOn}, c.retried, c.class, c.err)
	}
}

// One rule after the other: mark, ignore_on, retry_on, Classify, what the error says, the general rules.
func TestOrderOfRules(t *testing.T) {
	t.Parallel()
	err := &coded{code: "X", status: 500}
	says := func(c retry.Class) func(error) retry.Class { return func(error) retry.Class { return c } }
	for _, c := range []struct {
		policy  retry.Policy
		err     error
		class   retry.Class
		retried bool
	}{
		{retry.Policy{}, err, transient, true},
		{retry.Policy{Classify: says(unknown)}, err, transient, true},
		{retry.Policy{Classify: says(ignored)}, err, ignored, false},
		{retry.Policy{Classify: says(conflict)}, err, conflict, true},
		{retry.Policy{Classify: retry.Always}, errDown, transient, true},
		{retry.Policy{Classify: retry.Always, RetryOn: []string{"X"}}, errDown, transient, false},
		{retry.Policy{Classify: retry.Always, RetryOn: []string{"X", "default"}}, errDown, transient, true},
		{retry.Policy{Classify: says(ignored), RetryOn: []string{"X"}}, err, transient, true},
		{retry.Policy{Classify: says(throttled), RetryOn: []string{"throttled"}}, err, throttled, true},
		{retry.Policy{Classify: says(ignored), RetryOn: []string{"X"}, IgnoreOn: []string{"500"}}, err, ignored, false},
		{retry.Policy{Classify: says(ignored), IgnoreOn: []string{"500"}}, retry.Transient(err), transient, true},
		{retry.Policy{Classify: retry.Always, RetryOn: []string{"X"}}, retry.Permanent(err), permanent, false},
		{retry.Policy{Classify: retry.Always, RetryOn: []string{"X"}}, retry.Ignored(err), ignored, false},
		{retry.Policy{Classify: says(permanent)}, retry.Conflict(err), conflict, true},
		// Of two marks the outer one has the last word.
		{retry.Policy{}, retry.Transient(fmt.Errorf("x: %w", retry.Permanent(err))), transient, true},
		{retry.Policy{}, retry.Permanent(retry.After(err, time.Second)), permanent, false},
	} {
		retries(t, &c.policy, c.retried, c.class, c.err)
	}
}

// What a list chooses is for the retry; a breaker counts what the error means. A service that failed all the time used
// to be healthy for the breaker of a policy that ignored its errors, or chose others.
func TestListsAreNotForTheBreaker(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]retry.Policy{
		"ignored":    {IgnoreOn: []string{"5xx"}},
		"not chosen": {RetryOn: []string{"Mine"}},
	} {
		p.Breaker, p.Observe = breaker(circuit.Config{FailureThreshold: 5}), func(context.Context, retry.Event) {}
		f, made := always(&coded{status: 503})
		for range 5 {
			_ = retry.Do(t.Context(), &p, f)
		}
		if made.n != 5 || p.Breaker.State() != circuit.Open {
			t.Errorf("%s: after %d attempts the breaker is %v", name, made.n, p.Breaker.State())
		}
	}
}

// An entry that can't be meant used to match nothing, in silence.
func TestListEntries(t *testing.T) {
	t.Parallel()
	for _, good := range []string{
		"timeout", "connection", "throttled", "conflict", "404", "503", "599", "300", "4xx", "5xx", "40001", "40P01", "08006",
		"NoSuchBucket", "SlowDown", "ThrottlingException", "Throttling", "UNAVAILABLE", "Busy", "E1205", "rate_limit_exceeded",
		"AWS.SimpleQueueService.NonExistentQueue", "com.amazonaws#Throttled", "a/b", "Timeouts", "ConnectionError", "Internal",
	} {
		for _, p := range []retry.Policy{{RetryOn: []string{good}}, {IgnoreOn: []string{"503", good}}} {
			if err := p.Validate(); err != nil {
				t.Errorf("%q: %v", good, err)
			}
		}
	}
	for bad, nearest := range map[string]string{
		"timeot": "timeout", "timeouts": "timeout", "Timeout": "timeout", "time-out": "timeout", "TIMEOUT": "timeout",
		"connexion": "connection", "Connection": "connection", "throttle": "throttled", "Throttled": "throttled",
		"conflicts": "conflict", "defaul": "default", "Default": "default",
		"6xx": "", "3xx": "", "9XX": "", "5XX": "5xx", "5Xx": "5xx", "4XX": "4xx", "40p01": "40P01", "0a000": "0A000",
		"7": "", "0": "", "99": "", "999": "", "137": "", "200": "", "299": "", "600": "", "5003": "", "100000": "", "-1": "", "50.3": "",
		"busy": "", "network": "", "nosuchkey": "", "a b": "", "A B": "", "5": "", "x": "", "…": "", "Größe": "", "--": "",
		"": "", " ": "", strings.Repeat("A", 129): "",
	} {
		p := retry.Policy{MaxAttempts: 9}
		for _, err := range []error{
			(&retry.Policy{RetryOn: []string{"503", bad}}).Validate(),
			retry.Do(t.Context(), &retry.Policy{RetryOn: []string{bad}}, func(context.Context) error { return errDown }),
			p.Set("retry_on", "503,"+bad),
			json.Unmarshal([]byte(fmt.Sprintf(`{"retry_on": ["503", %q]}`, bad)), &p),
		} {
			wrong, ok := errors.AsType[*retry.ConfigError](err)
			if !ok || wrong.Field != "retry_on" || p.MaxAttempts != 9 || p.RetryOn != nil {
				t.Errorf("%q: %v", bad, err)
				continue
			}
			_, got, _ := strings.Cut(wrong.Want, "; did you mean ")
			if got = strings.TrimSuffix(got, "?"); got != nearest && bad != "" && bad != " " {
				t.Errorf("%q: did you mean %q, want %q", bad, got, nearest)
			}
		}
	}
	for _, p := range []retry.Policy{{IgnoreOn: []string{"default"}}, {RetryOn: []string{" 503"}}, {RetryOn: []string{"503,504"}}} {
		if err := p.Validate(); err == nil {
			t.Errorf("retry_on %q, ignore_on %q is accepted", p.RetryOn, p.IgnoreOn)
		}
	}
}

// Statuses are integers in JSON.
func TestListOfNumbers(t *testing.T) {
	t.Parallel()
	var p retry.Policy
	if err := json.Unmarshal([]byte(`{"retry_on": [503, "5xx", 40001, "default"], "ignore_on": 404}`), &p); err != nil {
		t.Fatal(err)
	}
	if got := fmt.Sprint(p.RetryOn, p.IgnoreOn); got != "[503 5xx 40001 default] [404]" {
		t.Error(got)
	}
}
