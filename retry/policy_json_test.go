package retry_test

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/retry"
)

// The JSON of policies, and what comes of it when it is read again.
func TestPolicyJSON(t *testing.T) {
	t.Parallel()
	for _, c := range []struct {
		policy retry.Policy
		want   string
	}{
		{retry.Policy{}, `{}`},
		{retry.Policy{Jitter: retry.NoJitter}, `{"jitter":0}`},
		{retry.Policy{MaxAttempts: retry.Unlimited}, `{"max_attempts":"unlimited"}`},
		{retry.Default(), `{"max_attempts":5,"base_delay":1,"max_delay":30,"exponential_base":2,"jitter":1}`},
		{full(), `{"name":"full","max_attempts":"unlimited","base_delay":1.5,"max_delay":90,"exponential_base":2.5,"jitter":0,` +
			`"jitter_mode":"equal","throttle_delay":3,"retry_on":["503","timeout"],"ignore_on":["AccessDenied"],` +
			`"attempt_timeout":0.000000001,"max_elapsed":3600,"max_retry_after":60,"respect_retry_after":false,"retry_nested":true}`},
	} {
		data, err := json.Marshal(c.policy)
		if err != nil || string(data) != c.want {
			t.Errorf("%+v: %s, %v; want %s", c.policy, data, err, c.want)
		}
		var p retry.Policy
		if err := json.Unmarshal(data, &p); err != nil || !reflect.DeepEqual(p, c.policy) {
			t.Errorf("%s: read as %+v, %v; want %+v", data, p, err, c.policy)
		}
	}
}

// Each way to write the same, and what the object does not name stays.
func TestPolicyJSONForms(t *testing.T) {
	t.Parallel()
	for _, data := range []string{
		`{"max_attempts": 7, "base_delay": 1.5, "retry_on": ["SlowDown", 503], "respect_retry_after": false}`,
		`{"max_attempts": "7", "base_delay": "1500ms", "retry_on": "SlowDown,503", "respect_retry_after": "false"}`,
		`{"max_attempts": 7, "base_delay": "1.5", "retry_on": ["SlowDown", "503"], "respect_retry_after": false}`,
	} {
		p := retry.S3Heavy()
		want := retry.S3Heavy()
		want.MaxAttempts, want.BaseDelay, want.RetryOn = 7, 1500*time.Millisecond, []string{"SlowDown", "503"}
		want.IgnoreRetryAfter = true
		if err := json.Unmarshal([]byte(data), &p); err != nil || !reflect.DeepEqual(p, want) {
			t.Errorf("%s: %+v, %v; want %+v", data, p, err, want)
		}
	}
}

// What is not allowed in JSON is refused by name, and changes nothing.
func TestPolicyJSONInvalid(t *testing.T) {
	t.Parallel()
	for data, field := range map[string]string{
		`{"max_attempts": 0}`:                  "max_attempts",
		`{"max_attempts": -1}`:                 "max_attempts",
		`{"max_attempts": 2.5}`:                "max_attempts",
		`{"max_attempts": null}`:               "max_attempts",
		`{"max_attempts": {}}`:                 "max_attempts",
		`{"max_attempts": [3]}`:                "",
		`{"base_delay": 0}`:                    "base_delay",
		`{"base_delay": -1}`:                   "base_delay",
		`{"base_delay": 1e300}`:                "base_delay",
		`{"base_delay": "NaN"}`:                "base_delay",
		`{"exponential_base": 0.5}`:            "exponential_base",
		`{"jitter": -1}`:                       "jitter",
		`{"retry_on": ["a,b"]}`:                "retry_on",
		`{"retry_on": [""]}`:                   "retry_on",
		`{"retry_on": [null]}`:                 "retry_on",
		`{"retry_on": [["a"], {}]}`:            "retry_on",
		`{"respect_retry_after": 3}`:           "respect_retry_after",
		`{"max_attempts": 9, "base_dealy": 1}`: "parameter",
		`{"name": "x", "max_delay": "thirty"}`: "max_delay",
		`{"name": ""}`:                         "name",
		`[]`:                                   "",
		`{"max_attempts": 3`:                   "",
	} {
		p := full()
		err := json.Unmarshal([]byte(data), &p)
		bad, ok := errors.AsType[*retry.ConfigError](err)
		if field == "" && err == nil && !strings.Contains(data, "[3]") || field != "" && (!ok || bad.Field != field) {
			t.Errorf("%s: %v, want an error about %q", data, err, field)
		}
		if err != nil && !reflect.DeepEqual(p, full()) {
			t.Errorf("%s: refused, but changed to %+v", data, p)
		}
	}
}

// FuzzPolicyJSON: a valid policy comes back from JSON as it was.
func FuzzPolicyJSON(f *testing.F) {
	f.Add("full", 5, int64(time.Second), int64(time.Hour), 2.0, int64(-1), uint8(1), int64(3), "503,timeout", true)
	f.Add("", -1, int64(0), int64(math.MaxInt64), 1.0, int64(math.MaxInt64), uint8(2), int64(math.MaxInt64-1), "", false)
	f.Add("q\"ü\x00", 0, int64(1), int64(1<<53+1), 1.1, int64(1<<60+7), uint8(0), int64(1e15+1), "a", false)
	f.Fuzz(func(t *testing.T, name string, attempts int, base, most int64, factor float64, jitter int64, mode uint8, span int64, list string, flag bool) {
		p := retry.Policy{
			Name: strings.TrimSpace(strings.ToValidUTF8(name, "")), MaxAttempts: attempts,
			BaseDelay: time.Duration(base), MaxDelay: time.Duration(most), ExponentialBase: factor,
			Jitter: time.Duration(jitter), JitterMode: retry.JitterMode(mode), ThrottleDelay: time.Duration(span),
			AttemptTimeout: time.Duration(span), MaxElapsed: time.Duration(span), MaxRetryAfter: time.Duration(span),
			IgnoreRetryAfter: flag, RetryNested: flag,
		}
		if list = strings.TrimSpace(strings.ToValidUTF8(list, "")); list != "" {
			p.RetryOn, p.IgnoreOn = []string{list}, []string{list, list}
		}
		if p.Validate() != nil {
			t.Skip("not allowed")
		}
		data, err := json.Marshal(p)
		if err != nil {
			t.Fatalf("%+v: %v", p, err)
		}
		var again retry.Policy
		if err := json.Unmarshal(data, &again); err != nil || !reflect.DeepEqual(again, p) {
			t.Errorf("%s:\nread as %+v, %v\nwant    %+v", data, again, err, p)
		}
	})
}
