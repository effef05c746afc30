package circuit

import (
	"encoding/json"
	"errors"
	"math"
	"reflect"
	"strconv"
	"strings"
	"testing"
	"time"
)

// configError returns err as a *ConfigError, and fails if it is none.
func configError(t *testing.T, what string, err error) *ConfigError {
	t.Helper()
	bad, ok := errors.AsType[*ConfigError](err)
	if !ok {
		t.Fatalf("%s: the error is %v, want a *ConfigError", what, err)
	}
	return bad
}

func TestConfigDefaults(t *testing.T) {
	want := Config{
		FailureThreshold: 5, RecoveryTimeout: 30 * time.Second, SuccessThreshold: 1, HalfOpenMax: 1,
		ProbeLease: 30 * time.Second, MinCalls: 20, OpenGrowth: 1, OpenMax: 5 * time.Minute,
	}
	if got := (Config{}).filled(); !reflect.DeepEqual(got, want) {
		t.Errorf("the zero Config means\n%+v, want\n%+v", got, want)
	}
}

func TestConfigThatIsNotAllowed(t *testing.T) {
	windowed := Config{Window: time.Minute, FailureRatio: .5}
	nan, inf := math.NaN(), math.Inf(1)
	change := func(set func(*Config)) Config { c := windowed; set(&c); return c }
	for _, row := range []struct {
		c           Config
		field, want string
		value       string
	}{
		{Config{FailureThreshold: -2}, "failure_threshold", "from 1 to 1000, or off", "-2"},
		{Config{FailureThreshold: 1001}, "failure_threshold", "from 1 to 1000, or off", "1001"},
		{Config{FailureThreshold: math.MinInt}, "failure_threshold", "from 1 to 1000", strconv.Itoa(math.MinInt)},
		{Config{RecoveryTimeout: -1}, "recovery_timeout_seconds", "from 1ms to 720h", "-0.000000001"},
		{Config{RecoveryTimeout: time.Microsecond}, "recovery_timeout_seconds", "from 1ms", "0.000001"},
		{Config{RecoveryTimeout: math.MaxInt64}, "recovery_timeout_seconds", "to 720h", "9223372036.854775807"},
		{Config{Rate: -1}, "rate", "from 1/d to 1000000/s", "-1"},
		{Config{Rate: 1e-6}, "rate", "from 1/d to 1000000/s", "1e-06"},
		{Config{Rate: 1e6 + 1}, "rate", "from 1/d to 1000000/s", "1.000001e+06"},
		{Config{Rate: nan}, "rate", "from 1/d to 1000000/s", "NaN"},
		{Config{Rate: inf}, "rate", "from 1/d to 1000000/s", "+Inf"},
		{Config{Rate: 1, Burst: -1}, "burst", "from 1 to 10000", "-1"},
		{Config{Rate: 1, Burst: 10_001}, "burst", "from 1 to 10000", "10001"},
		{Config{Burst: 2}, "burst", "used with a rate", "2"},
		{Config{SuccessThreshold: -1}, "success_threshold", "from 1 to 31", "-1"},
		{Config{SuccessThreshold: 32}, "success_threshold", "from 1 to 31", "32"},
		{Config{HalfOpenMax: -1}, "half_open_max", "from 1 to 31", "-1"},
		{Config{HalfOpenMax: 32}, "half_open_max", "from 1 to 31", "32"},
		{Config{ProbeLease: -time.Second}, "probe_lease", "from 1ms", "-1"},
		{Config{ProbeLease: 31 * 24 * time.Hour}, "probe_lease", "to 720h", "2678400"},
		{change(func(c *Config) { c.Window = -time.Minute }), "window", "from 10ms", "-60"},
		{change(func(c *Config) { c.Window = 9 * time.Millisecond }), "window", "from 10ms", "0.009"},
		{change(func(c *Config) { c.Window = 1000 * time.Hour }), "window", "to 596h31m23.647s", "3600000"},
		{change(func(c *Config) { c.MinCalls = -1 }), "min_calls", "at least 1", "-1"},
		{change(func(c *Config) { c.FailureRatio = -.1 }), "failure_ratio", "above 0, at most 1", "-0.1"},
		{change(func(c *Config) { c.FailureRatio = 1.1 }), "failure_ratio", "above 0, at most 1", "1.1"},
		{change(func(c *Config) { c.FailureRatio = nan }), "failure_ratio", "above 0, at most 1", "NaN"},
		{change(func(c *Config) { c.FailureRatio = inf }), "failure_ratio", "above 0, at most 1", "+Inf"},
		{change(func(c *Config) { c.SlowCall = -1 }), "slow_call", "above 0", "-0.000000001"},
		{change(func(c *Config) { c.SlowCall, c.SlowRatio = 1, nan }), "slow_ratio", "above 0, at most 1", "NaN"},
		{change(func(c *Config) { c.SlowCall, c.SlowRatio = 1, 2 }), "slow_ratio", "above 0, at most 1", "2"},
		{Config{OpenGrowth: .5}, "open_growth", "from 1 to 10", "0.5"},
		{Config{OpenGrowth: -1}, "open_growth", "from 1 to 10", "-1"},
		{Config{OpenGrowth: nan}, "open_growth", "from 1 to 10", "NaN"},
		{Config{OpenGrowth: inf}, "open_growth", "from 1 to 10", "+Inf"},
		{Config{OpenJitter: -.5}, "open_jitter", "above 0, at most 1", "-0.5"},
		{Config{OpenJitter: nan}, "open_jitter", "above 0, at most 1", "NaN"},
		{Config{OpenJitter: 1.5}, "open_jitter", "above 0, at most 1", "1.5"},
		{Config{OpenMax: -time.Second}, "open_max", "from 1ms", "-1"},
		{Config{OpenMax: 29 * time.Second}, "open_max", "at least recovery_timeout_seconds (30s)", "29s"},
		{Config{Budget: -1}, "budget", "from 1 to 1000", "-1"},
		{Config{Budget: .5}, "budget", "from 1 to 1000", "0.5"},
		{Config{Budget: 1001}, "budget", "from 1 to 1000", "1001"},
		{Config{Budget: nan}, "budget", "from 1 to 1000", "NaN"},
		{Config{FailureRatio: .5}, "failure_ratio", "a window", "0.5"},
		{Config{SlowCall: time.Second}, "slow_call", "a window", "1s"},
		{change(func(c *Config) { c.SlowRatio = .5 }), "slow_ratio", "a slow_call", "0.5"},
		{Config{Window: time.Minute}, "window", "a failure_ratio or a slow_call", "1m0s"},
	} {
		err := row.c.Validate()
		bad := configError(t, row.field+" "+row.value, err)
		if bad.Field != row.field || bad.Value != row.value || !strings.Contains(bad.Want, row.want) {
			t.Errorf("%s %s: got %q, %q, %q; want %q", row.field, row.value, bad.Field, bad.Value, bad.Want, row.want)
		}
		if !strings.HasPrefix(err.Error(), "invalid value "+row.value+" for "+row.field+": must be ") {
			t.Errorf("%s %s: the text is %q", row.field, row.value, err)
		}
		if made := New("x", row.c); made.invalid() == nil || made.Allow() {
			t.Errorf("%s %s: New made a breaker that admits", row.field, row.value)
		}
	}
}

func TestConfigThatIsAllowed(t *testing.T) {
	for _, c := range []Config{
		{},
		{FailureThreshold: 1000, SuccessThreshold: 31, HalfOpenMax: 31},
		{RecoveryTimeout: time.Millisecond, ProbeLease: time.Millisecond},
		{RecoveryTimeout: maxOpen, ProbeLease: maxOpen, OpenGrowth: 10, OpenJitter: 1, OpenMax: maxOpen},
		{Window: minWindow, FailureRatio: math.SmallestNonzeroFloat64, MinCalls: math.MaxInt},
		{Window: maxWindow, SlowCall: 1, FailureThreshold: Off},
		{FailureThreshold: Off, Budget: 10}, // for the budget alone
		{Budget: 1},
		{Budget: 1000},
		{Rate: 1.0 / 86400, Burst: 10_000},
		{Rate: 1e6},
	} {
		if err := c.Validate(); err != nil {
			t.Errorf("%+v: %v", c, err)
		}
		if !New("x", quiet(c)).Allow() {
			t.Errorf("%+v: the breaker admits nothing", c)
		}
	}
}

func TestConfigSet(t *testing.T) {
	for _, row := range []struct {
		name, text string
		want       Config
	}{
		{"failure_threshold", "7", Config{FailureThreshold: 7}},
		{"failure_threshold", " off ", Config{FailureThreshold: Off}},
		{"recovery_timeout_seconds", "30", Config{RecoveryTimeout: 30 * time.Second}},
		{"recovery_timeout_seconds", "1.5", Config{RecoveryTimeout: 1500 * time.Millisecond}},
		{"recovery_timeout_seconds", "1500ms", Config{RecoveryTimeout: 1500 * time.Millisecond}},
		{"recovery_timeout_seconds", "1m30s", Config{RecoveryTimeout: 90 * time.Second}},
		{"rate", "600/m", Config{Rate: 10}},
		{"burst", "5", Config{Burst: 5}},
		{"success_threshold", "2", Config{SuccessThreshold: 2}},
		{"half_open_max", "3", Config{HalfOpenMax: 3}},
		{"probe_lease", "10", Config{ProbeLease: 10 * time.Second}},
		{"window", "60", Config{Window: time.Minute}},
		{"min_calls", "100", Config{MinCalls: 100}},
		{"failure_ratio", "0.5", Config{FailureRatio: .5}},
		{"slow_call", "2", Config{SlowCall: 2 * time.Second}},
		{"slow_ratio", "1", Config{SlowRatio: 1}},
		{"open_growth", "2", Config{OpenGrowth: 2}},
		{"open_jitter", "0.2", Config{OpenJitter: .2}},
		{"open_max", "1h", Config{OpenMax: time.Hour}},
		{"budget", "10", Config{Budget: 10}},
		{"observe_only", "true", Config{ObserveOnly: true}},
	} {
		var c Config
		if err := c.Set(row.name, row.text); err != nil || !reflect.DeepEqual(c, row.want) {
			t.Errorf("%s=%q gives %+v, %v; want %+v", row.name, row.text, c, err, row.want)
		}
	}
}

// In text, zero and nonsense are errors for every parameter except the switch, and leave
// the Config unchanged.
func TestConfigSetRefuses(t *testing.T) {
	texts := []string{
		"", "0", "-0", "0s", "-1", "-1s", "NaN", "nan", "Inf", "-inf", "1e400", "1e-400",
		"99999999999999999999999", "many", "1,5", "1 2", "0x", "default", "5;", "\x00",
	}
	for _, p := range Parameters() {
		for _, text := range texts {
			if p.Name == "observe_only" && strings.Trim(text, "-") == "0" {
				continue // false
			}
			c := Config{FailureThreshold: 3, RecoveryTimeout: time.Second, Budget: 2}
			before := c
			bad := configError(t, p.Name+"="+text, c.Set(p.Name, text))
			if bad.Field != p.Name || !strings.Contains(bad.Value, strings.Trim(text, "\x00")) || bad.Want != p.Want {
				t.Errorf("%s=%q: %v", p.Name, text, bad)
			}
			if !reflect.DeepEqual(c, before) {
				t.Errorf("%s=%q changed the Config to %+v", p.Name, text, c)
			}
		}
		if p.Doc == "" || p.Want == "" {
			t.Errorf("%s has no doc", p.Name)
		}
	}
	var c Config
	bad := configError(t, "a name that there is not", c.Set("failure_treshold", "5"))
	if bad.Value != `"failure_treshold"` || !strings.HasSuffix(bad.Want, "; did you mean failure_threshold?") {
		t.Errorf("a name that there is not: %v", bad)
	}
}

func TestConfigJSON(t *testing.T) {
	full := Config{
		FailureThreshold: Off, RecoveryTimeout: 1500 * time.Microsecond, SuccessThreshold: 2, HalfOpenMax: 3,
		ProbeLease: time.Hour + 1, Window: 7 * time.Second / 3, MinCalls: 12, FailureRatio: 1. / 3, SlowCall: 1,
		SlowRatio: .123456789, OpenGrowth: 1.5, OpenJitter: .1, OpenMax: maxOpen - 1, Budget: 12.5, Rate: 7. / 60, Burst: 3, ObserveOnly: true,
	}
	for _, c := range []Config{{}, {FailureThreshold: 5}, full} {
		data, err := json.Marshal(c)
		if err != nil {
			t.Fatal(err)
		}
		var back Config
		if err := json.Unmarshal(data, &back); err != nil || !reflect.DeepEqual(back, c) {
			t.Errorf("%s comes back as %+v, %v; want %+v", data, back, err, c)
		}
	}
	data, err := json.Marshal(Config{FailureThreshold: 3, RecoveryTimeout: 1500 * time.Millisecond, ObserveOnly: true})
	if want := `{"failure_threshold":3,"recovery_timeout_seconds":1.5,"observe_only":true}`; err != nil || string(data) != want {
		t.Errorf("JSON %s, %v; want %s", data, err, want)
	}
	var c Config
	in := `{"failure_threshold":"7","recovery_timeout_seconds":"2m","failure_ratio":0.25,"window":20,"observe_only":false}`
	want := Config{FailureThreshold: 7, RecoveryTimeout: 2 * time.Minute, FailureRatio: .25, Window: 20 * time.Second}
	if err := json.Unmarshal([]byte(in), &c); err != nil || !reflect.DeepEqual(c, want) {
		t.Errorf("%s gives %+v, %v", in, c, err)
	}
}

func TestConfigJSONRefuses(t *testing.T) {
	for _, row := range []struct{ in, field, value, want string }{
		{`{"failure_threshold":0}`, "failure_threshold", `"0"`, "from 1 to 1000"},
		{`{"failure_threshold":5.5}`, "failure_threshold", `"5.5"`, "whole number"},
		{`{"failure_threshold":true}`, "failure_threshold", `"true"`, "whole number"},
		{`{"failure_threshold":null}`, "failure_threshold", `"null"`, "whole number"},
		{`{"failure_threshold":{}}`, "failure_threshold", `"{}"`, "whole number"},
		{`{"failure_threshold":[5,6]}`, "failure_threshold", `"[5,6]"`, "whole number"},
		{`{"gate":["wait"]}`, "gate", "wait", "one of off, wait, fail_fast"},
		{`{"recovery_timeout_seconds":-1}`, "recovery_timeout_seconds", `"-1"`, "from 1ms"},
		{`{"recovery_timeout_seconds":1e300}`, "recovery_timeout_seconds", `"1e300"`, "to 720h"},
		{`{"recovery_timeout":30}`, "parameter", `"recovery_timeout"`, "one of failure_threshold, "},
		{`{"Budget":30}`, "parameter", `"Budget"`, "did you mean budget?"},
		{`{"zeta":1,"eta":2,"alpha":3,"beta":4}`, "parameter", `"alpha"`, "one of"},
	} {
		c := Config{FailureThreshold: 9}
		bad := configError(t, row.in, json.Unmarshal([]byte(row.in), &c))
		if bad.Field != row.field || !strings.Contains(bad.Value, row.value) || !strings.Contains(bad.Want, row.want) {
			t.Errorf("%s: %v", row.in, bad)
		}
		if !reflect.DeepEqual(c, Config{FailureThreshold: 9}) {
			t.Errorf("%s changed the Config to %+v", row.in, c)
		}
	}
	for _, in := range []string{`[]`, `5`, `"x"`} {
		if err := json.Unmarshal([]byte(in), new(Config)); err == nil {
			t.Errorf("%s is taken for a Config", in)
		}
	}
}

func TestPermitsFitTheWord(t *testing.T) {
	c := Config{FailureThreshold: maxFailures, SuccessThreshold: countMask, HalfOpenMax: countMask, RecoveryTimeout: time.Second}
	r := stepRules(t, c)
	v := walker{rules: r, now: base}
	for i := range maxFailures {
		if v.word.failures() != i || v.word.state() != Closed {
			t.Fatalf("after %d failures: %x", i, v.word)
		}
		v.do(failure)
	}
	v.now += r.open
	for i := range countMask {
		if !v.do(acquire) || v.word.inFlight() != i+1 || v.word.state() != HalfOpen {
			t.Fatalf("probe %d: %x", i+1, v.word)
		}
	}
	if v.do(acquire) {
		t.Error("a probe too many")
	}
	for i := range countMask {
		if v.word.successes() != i || v.word.inFlight() != countMask-i || v.word.generation() != 2 {
			t.Fatalf("after %d successes: %x", i, v.word)
		}
		v.do(success)
	}
	if v.word != 3<<generationShift {
		t.Errorf("after the last success: %x", v.word)
	}
}
