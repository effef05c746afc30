package retry_test

import (
	"context"
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/circuit"
	adapters "github.com/seed-0f2c7998/perdure/internal/calls"
	"github.com/seed-0f2c7998/perdure/retry"
)

// invalid holds policies that must be refused, with the field at fault and
// what the error must say besides.
func invalid() map[string]struct {
	policy retry.Policy
	says   []string
} {
	type row = struct {
		policy retry.Policy
		says   []string
	}
	nan, inf := math.NaN(), math.Inf(1)
	return map[string]row{
		"max_attempts negative":    {retry.Policy{MaxAttempts: -2}, []string{"max_attempts", "-2", "unlimited"}},
		"max_attempts least":       {retry.Policy{MaxAttempts: math.MinInt}, []string{"max_attempts", "unlimited"}},
		"base_delay negative":      {retry.Policy{BaseDelay: -time.Second}, []string{"base_delay", "-1", "above 0"}},
		"base_delay -1":            {retry.Policy{BaseDelay: -1}, []string{"base_delay", "above 0"}},
		"max_delay negative":       {retry.Policy{MaxDelay: -1}, []string{"max_delay"}},
		"max_delay least":          {retry.Policy{MaxDelay: math.MinInt64}, []string{"max_delay"}},
		"exponential_base small":   {retry.Policy{ExponentialBase: 0.5}, []string{"exponential_base", "0.5", "1 to 1000"}},
		"exponential_base almost":  {retry.Policy{ExponentialBase: math.Nextafter(1, 0)}, []string{"exponential_base"}},
		"exponential_base negated": {retry.Policy{ExponentialBase: -2}, []string{"exponential_base", "-2"}},
		"exponential_base huge":    {retry.Policy{ExponentialBase: 1001}, []string{"exponential_base", "1001"}},
		"exponential_base NaN":     {retry.Policy{ExponentialBase: nan}, []string{"exponential_base", "NaN"}},
		"exponential_base Inf":     {retry.Policy{ExponentialBase: inf}, []string{"exponential_base", "+Inf"}},
		"exponential_base -Inf":    {retry.Policy{ExponentialBase: -inf}, []string{"exponential_base", "-Inf"}},
		"jitter":                   {retry.Policy{Jitter: -2}, []string{"jitter", "or 0"}},
		"jitter least":             {retry.Policy{Jitter: math.MinInt64}, []string{"jitter"}},
		"jitter_mode":              {retry.Policy{JitterMode: 255}, []string{"jitter_mode", "255", "additive, full, equal"}},
		"throttle_delay":           {retry.Policy{ThrottleDelay: -1}, []string{"throttle_delay"}},
		"attempt_timeout":          {retry.Policy{AttemptTimeout: -1}, []string{"attempt_timeout"}},
		"max_elapsed":              {retry.Policy{MaxElapsed: -time.Hour}, []string{"max_elapsed", "-3600"}},
		"max_retry_after":          {retry.Policy{MaxRetryAfter: -1}, []string{"max_retry_after"}},
		"retry_on empty":           {retry.Policy{RetryOn: []string{"503", ""}}, []string{"retry_on", `""`, "timeout, connection"}},
		"retry_on comma":           {retry.Policy{RetryOn: []string{"503,500"}}, []string{"retry_on"}},
		"ignore_on blank":          {retry.Policy{IgnoreOn: []string{" "}}, []string{"ignore_on"}},
		"lists and a number":       {retry.Policy{IgnoreOn: []string{"X"}, MaxAttempts: -9}, []string{"max_attempts"}},
		"breaker": {
			retry.Policy{Breaker: circuit.New("b", circuit.Config{FailureThreshold: -7})},
			[]string{"failure_threshold", "-7"},
		},
	}
}

// Validate refuses each of them, and so does Do before the first attempt, with an error
// that names field, value and what is allowed.
func TestPolicyInvalid(t *testing.T) {
	t.Parallel()
	for name, c := range invalid() {
		err := c.policy.Validate()
		bad, ok := errors.AsType[*retry.ConfigError](err)
		if !ok || bad.Field != c.says[0] || bad.Want == "" {
			t.Errorf("%s: %v, want a ConfigError about %s", name, err, c.says[0])
			continue
		}
		for _, part := range c.says {
			if !strings.Contains(err.Error(), part) {
				t.Errorf("%s: %q does not say %q", name, err, part)
			}
		}
		if want := "invalid value " + bad.Value + " for " + bad.Field + ": must be " + bad.Want; err.Error() != want {
			t.Errorf("%s: the text is %q, want %q", name, err, want)
		}
		f, made := calls()
		got := retry.Do(t.Context(), &c.policy, f)
		if !reflect.DeepEqual(got, err) || made.n != 0 {
			t.Errorf("%s: Do made %d attempts and returned %v, want %v", name, made.n, got, err)
		}
		if _, err := adapters.Begin(t.Context(), &c.policy); err == nil {
			t.Errorf("%s: Begin does not refuse it", name)
		}
	}
}

// Values at the limits are allowed, and work.
func TestPolicyValid(t *testing.T) {
	t.Parallel()
	for name, p := range map[string]retry.Policy{
		"zero":             {},
		"one attempt":      {MaxAttempts: 1},
		"unlimited":        {MaxAttempts: retry.Unlimited},
		"most attempts":    {MaxAttempts: math.MaxInt},
		"no jitter":        {Jitter: retry.NoJitter},
		"most jitter":      {Jitter: math.MaxInt64},
		"shortest":         {BaseDelay: 1, MaxDelay: time.Second, Jitter: 1},
		"longest":          {BaseDelay: math.MaxInt64, MaxDelay: math.MaxInt64, MaxElapsed: math.MaxInt64, MaxRetryAfter: math.MaxInt64},
		"base is max":      {BaseDelay: time.Minute, MaxDelay: time.Minute, ThrottleDelay: time.Minute},
		"constant":         {ExponentialBase: 1},
		"steepest":         {ExponentialBase: 1000},
		"lists":            {RetryOn: []string{"503", "timeout"}, IgnoreOn: []string{"AccessDenied"}},
		"empty lists":      {RetryOn: []string{}, IgnoreOn: []string{}},
		"attempt timeout":  {AttemptTimeout: math.MaxInt64},
		"breaker":          {Breaker: breaker(circuit.Config{})},
		"equal, throttled": {JitterMode: retry.EqualJitter, ThrottleDelay: 1},
	} {
		if err := p.Validate(); err != nil {
			t.Errorf("%s: %v", name, err)
		}
		f, made := calls()
		if err := retry.Do(t.Context(), &p, f); err != nil || made.n != 1 {
			t.Errorf("%s: Do: %v after %d attempts", name, err, made.n)
		}
	}
}

// A nil policy is the zero one.
func TestPolicyNil(t *testing.T) {
	t.Parallel()
	f, made := always(errDown)
	if err := retry.Do(t.Context(), nil, f); err != errDown || made.n != 1 { //nolint:errorlint // as itself
		t.Errorf("%v after %d attempts", err, made.n)
	}
	v, err := retry.Value(t.Context(), nil, func(context.Context) (int, error) { return 7, nil })
	if v != 7 || err != nil {
		t.Errorf("%d, %v", v, err)
	}
}

// The text of each parameter: accepted values, and values that are refused and change
// nothing.
func TestPolicySet(t *testing.T) {
	t.Parallel()
	const s = time.Second
	for _, c := range []struct {
		name string
		good map[string]retry.Policy
		bad  []string
	}{
		{"name", map[string]retry.Policy{"x y": {Name: "x y"}}, []string{""}},
		{
			"max_attempts",
			map[string]retry.Policy{"1": {MaxAttempts: 1}, " 7 ": {MaxAttempts: 7}, "unlimited": {MaxAttempts: retry.Unlimited}},
			[]string{"", "0", "-1", "-5", "1.5", "5.0", "many", "NaN", "Inf", "99999999999999999999", "1e3", "5s"},
		},
		{
			"base_delay",
			map[string]retry.Policy{
				"1": {BaseDelay: s}, "1.5": {BaseDelay: 1500 * time.Millisecond}, "1500ms": {BaseDelay: 1500 * time.Millisecond},
				"0.5": {BaseDelay: s / 2}, ".5": {BaseDelay: s / 2}, "1e-3": {BaseDelay: time.Millisecond}, "2m": {BaseDelay: 2 * time.Minute},
				"0.000000001": {BaseDelay: 1},
			},
			[]string{"", "0", "-1", "-1s", "0s", "NaN", "Inf", "-Inf", "1e300", "9223372037", "1e-12", "soon", "1,5", "1 s", "5x", "-0", "infinity"},
		},
		{"max_delay", map[string]retry.Policy{"30": {MaxDelay: 30 * s}}, []string{"0", "-30", "nan"}},
		{
			"exponential_base",
			map[string]retry.Policy{"1": {ExponentialBase: 1}, "2.5": {ExponentialBase: 2.5}, "1000": {ExponentialBase: 1000}},
			[]string{"", "0", "0.99", "-2", "NaN", "Inf", "1e400", "1000.1", "two"},
		},
		{
			"jitter",
			map[string]retry.Policy{
				"0": {Jitter: retry.NoJitter}, "0s": {Jitter: retry.NoJitter}, "0.0": {Jitter: retry.NoJitter}, "2": {Jitter: 2 * s}, "250ms": {Jitter: s / 4},
			},
			[]string{"", "-1", "-1ns", "-0.5", "NaN", "Inf", "none"},
		},
		{
			"jitter_mode",
			map[string]retry.Policy{"additive": {}, "full": {JitterMode: retry.FullJitter}, "equal": {JitterMode: retry.EqualJitter}},
			[]string{"", "FULL", "none", "1"},
		},
		{"throttle_delay", map[string]retry.Policy{"2": {ThrottleDelay: 2 * s}}, []string{"0", "-1"}},
		{
			"retry_on",
			map[string]retry.Policy{
				"503": {RetryOn: []string{"503"}}, "SlowDown, 503,timeout": {RetryOn: []string{"SlowDown", "503", "timeout"}},
			},
			[]string{"", ",", "503,", "a,,b", " , "},
		},
		{"ignore_on", map[string]retry.Policy{"404": {IgnoreOn: []string{"404"}}}, []string{"", ","}},
		{"attempt_timeout", map[string]retry.Policy{"10": {AttemptTimeout: 10 * s}}, []string{"0", "-10"}},
		{"max_elapsed", map[string]retry.Policy{"15m": {MaxElapsed: 15 * time.Minute}}, []string{"0", "-10"}},
		{"max_retry_after", map[string]retry.Policy{"90": {MaxRetryAfter: 90 * s}}, []string{"0", "-10"}},
		{"respect_retry_after", map[string]retry.Policy{"true": {}, "false": {IgnoreRetryAfter: true}}, []string{"", "yes", "2"}},
		{"retry_nested", map[string]retry.Policy{"true": {RetryNested: true}, "false": {}}, []string{"", "on"}},
	} {
		for text, want := range c.good {
			var p retry.Policy
			if err := p.Set(c.name, text); err != nil || !reflect.DeepEqual(p, want) {
				t.Errorf("%s = %q: %+v, %v; want %+v", c.name, text, p, err, want)
			}
		}
		for _, text := range c.bad {
			before := full()
			p := full()
			err := p.Set(c.name, text)
			bad, ok := errors.AsType[*retry.ConfigError](err)
			if !ok || bad.Field != c.name || !strings.Contains(err.Error(), `"`+text+`"`) || bad.Want == "" {
				t.Errorf("%s = %q: %v, want an error that names field, value and what is allowed", c.name, text, err)
			}
			if !reflect.DeepEqual(p, before) {
				t.Errorf("%s = %q: refused, but changed to %+v", c.name, text, p)
			}
		}
	}
}

// full returns a policy in which no parameter is the default.
func full() retry.Policy {
	return retry.Policy{
		Name: "full", MaxAttempts: retry.Unlimited, BaseDelay: 1500 * time.Millisecond, MaxDelay: 90 * time.Second,
		ExponentialBase: 2.5, Jitter: retry.NoJitter, JitterMode: retry.EqualJitter, ThrottleDelay: 3 * time.Second,
		RetryOn: []string{"503", "timeout"}, IgnoreOn: []string{"AccessDenied"}, AttemptTimeout: 1, MaxElapsed: time.Hour,
		MaxRetryAfter: time.Minute, IgnoreRetryAfter: true, RetryNested: true,
	}
}

// The error of an unknown name has a suggestion.
func TestPolicyUnknownNames(t *testing.T) {
	t.Parallel()
	for name, suggestion := range map[string]string{
		"max_atempts": "max_attempts", "MaxAttempts": "max_attempts", "basedelay": "base_delay", "Jitter": "jitter",
		"retry_after": "", "colour": "", "": "",
	} {
		p := full()
		err := p.Set(name, "1")
		if _, ok := errors.AsType[*retry.ConfigError](err); !ok || !strings.Contains(err.Error(), name) ||
			!strings.Contains(err.Error(), "max_attempts, base_delay") {
			t.Errorf("%q: %v, want a ConfigError with the names that there are", name, err)
		}
		if suggestion != "" && !strings.HasSuffix(err.Error(), "did you mean "+suggestion+"?") {
			t.Errorf("%q: %v, want the suggestion %s", name, err, suggestion)
		}
		if data := `{"` + name + `": 1}`; json.Unmarshal([]byte(data), &p) == nil || !reflect.DeepEqual(p, full()) {
			t.Errorf("%s: not refused, or changed to %+v", data, p)
		}
	}
	_, err := retry.Preset("s3_uplod")
	if bad, ok := errors.AsType[*retry.ConfigError](err); !ok || bad.Field != "preset" || !strings.HasSuffix(err.Error(), "did you mean s3_upload?") {
		t.Errorf("preset s3_uplod: %v", err)
	}
}

// The table of parameters is the one that Set and JSON use.
func TestPolicyParameters(t *testing.T) {
	t.Parallel()
	want := "name max_attempts base_delay max_delay exponential_base jitter jitter_mode throttle_delay retry_on ignore_on " +
		"attempt_timeout max_elapsed max_retry_after respect_retry_after retry_nested"
	var names []string
	for _, p := range retry.Parameters() {
		if p.Doc == "" || p.Want == "" {
			t.Errorf("%s lacks a text: %+v", p.Name, p)
		}
		names = append(names, p.Name)
	}
	if got := strings.Join(names, " "); got != want {
		t.Errorf("%s, want %s", got, want)
	}
}

// Each call of Preset, or of a preset's function, returns a new Policy.
func TestPresets(t *testing.T) {
	t.Parallel()
	names := retry.PresetNames()
	if got := strings.Join(names, " "); got != "default s3_upload s3_download s3_heavy api_call service pipeline" {
		t.Errorf("presets %s", got)
	}
	for _, name := range names {
		for _, spelled := range []string{name, strings.ToUpper(name), strings.ReplaceAll(name, "_", "-")} {
			p, err := retry.Preset(spelled)
			if err != nil || p.Name != "" || p.Validate() != nil {
				t.Errorf("%s: %+v, %v, %v", spelled, p, err, p.Validate())
			}
			p.MaxAttempts, p.Name, p.RetryOn = 99, "changed", append(p.RetryOn, "Changed")
			if again, _ := retry.Preset(spelled); again.MaxAttempts == 99 || again.Name != "" || len(again.RetryOn) != 0 {
				t.Errorf("%s has been altered for others: %+v", spelled, again)
			}
		}
	}
	service, pipeline := retry.Service(), retry.Pipeline()
	if service.Attempts() != 3 || service.MaxElapsed != 30*time.Second || service.JitterMode != retry.FullJitter ||
		ceiling(service, 1) != 50*time.Millisecond || ceiling(service, 99) != 20*time.Second {
		t.Errorf("service: %+v", service)
	}
	if pipeline.Attempts() != retry.Unlimited || pipeline.MaxElapsed != 15*time.Minute || pipeline.JitterMode != retry.EqualJitter ||
		ceiling(pipeline, 1) != time.Second || ceiling(pipeline, 99) != time.Minute || pipeline.MaxRetryAfter != 15*time.Minute {
		t.Errorf("pipeline: %+v", pipeline)
	}
}

// Whatever one field a user sets of a preset, the policy is valid, and no wait is longer than its MaxDelay. A Service with
// a MaxDelay of 100 ms used to compile, and then refuse every call: its ThrottleDelay was longer.
func TestPresetWithOneFieldSet(t *testing.T) {
	t.Parallel()
	values := map[string][]string{
		"name":                {"x"},
		"max_attempts":        {"1", "2", "1000000", "unlimited"},
		"exponential_base":    {"1", "1.5", "1000"},
		"jitter":              {"0", "1ns", "100ms", "1h"},
		"jitter_mode":         {"additive", "full", "equal"},
		"retry_on":            {"default", "503,timeout"},
		"ignore_on":           {"404"},
		"respect_retry_after": {"true", "false"},
		"retry_nested":        {"true", "false"},
	}
	spans := []string{"1ns", "1ms", "100ms", "1", "30s", "31s", "5m", "24h"}
	for _, name := range retry.PresetNames() {
		for _, field := range retry.Parameters() {
			texts, ok := values[field.Name]
			if !ok {
				texts = spans
			}
			for _, text := range texts {
				p, err := retry.Preset(name)
				if err = errors.Join(err, p.Set(field.Name, text), p.Validate()); err != nil {
					t.Errorf("%s with %s=%s: %v", name, field.Name, text, err)
				}
				f, made := calls()
				if err := retry.Do(t.Context(), &p, f); err != nil || made.n != 1 {
					t.Errorf("%s with %s=%s: %d calls, %v", name, field.Name, text, made.n, err)
				}
				for _, class := range []retry.Class{retry.ClassTransient, retry.ClassThrottled, retry.ClassConflict} {
					for attempt := range 20 {
						low, width := p.Range(attempt+1, class)
						if low < 0 || width < 0 || low+width > max(p.MaxDelay, ceiling(p, 1000)) || p.MaxDelay > 0 && low+width > p.MaxDelay {
							t.Errorf("%s with %s=%s: %v after attempt %d: %v and %v more", name, field.Name, text, class, attempt+1, low, width)
						}
					}
				}
			}
		}
	}
}
