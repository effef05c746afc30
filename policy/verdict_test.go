package policy_test

import (
	"encoding/json"
	"reflect"
	"regexp"
	"slices"
	"testing"
	"unicode/utf8"

	"github.com/goccy/go-yaml"

	"github.com/seed-0f2c7998/perdure/policy"
)

// The schema accepts what Load accepts, and refuses each kind of what Load refuses, except for
// values that contradict each other and texts out of range.
func TestSchemaAgreesWithLoad(t *testing.T) {
	for text, want := range map[string]bool{
		full: true, shop: true, "": true, "policy: {max_attempts: unlimited, jitter: 0}": true, "policies: ~": true,
		"circuit_breaker: {failure_threshold: off, recovery_timeout: 1500ms, rate: 60/m, budget: 10}":               true,
		"circuit_breaker: {recovery_timeout_seconds: 1, gate: fail_fast, observe_only: true}":                       true,
		"policy: {preset: s3-upload, retry_on: [503, SlowDown], ignore_on: timeout, retry_nested: 'true', name: 5}": true,
		"policies: {a: {circuit_breaker: {}}, b: }":                                                                 true, "store: redis://cache": true, "policy: {max_attempts: '7'}": true,
		"policy: {max_attempts: 0}": false, "policy: {max_attempts: 1.5}": false, "policy: {max_attempts: few}": false, "policy: {max_attempts: }": false,
		"policy: {exponential_base: 1001}": false, "policy: {base_delay: soon}": false, "policy: {base_delay: -1}": false, "policy: {base_delay: [1]}": false,
		"policy: {jitter_mode: some}": false, "policy: {respect_retry_after: 2}": false, "policy: {name: ''}": false, "policy: {retry_on: {a: 1}}": false,
		"policy: {preset: s4}": false, "policy: {rate: 1}": false, "policy: 5": false, "policy: [1]": false, "policie: {}": false, "- 1": false,
		"circuit_breaker: {failure_threshold: 1001}": false, "circuit_breaker: {rate: 60/y}": false, "circuit_breaker: {failure_ratio: 0}": false,
		"circuit_breaker: {gate: open}": false, "circuit_breaker: {max_attempts: 1}": false, "circuit_breaker: {concurrency: 10001}": false,
		"policy: {}\npolicies: {}": false, "circuit_breaker: {}\nbreakers: {}": false, "policies: {a b: {}}": false, "policies: {a: 5}": false,
		"policies: {a: {store: memory}}": false, "policies: {a: {rate: 1}}": false, "policies: {a: {circuit_breaker: 5}}": false,
		"breakers: {a: {preset: s3_upload}}": false, "breakers: {a: {max_attempts: 5}}": false, "store: disk": false,
		"proxy: {/: {to: 'http://a/b'}, /p/: {policy: a, to: 'HTTPS://b:1'}}\npolicies: {a: }": true, "proxy: {/p: {to: 'http://a', policy: service}}": true, "proxy: ~": true,
		"proxy: {p: {to: 'http://a'}}": false, "proxy: {/p: {}}": false, "proxy: {/p: ~}": false, "proxy: {/p: 'http://a'}": false, "proxy: {/p: {to: 'ftp://a'}}": false,
		"proxy: {/p: {to: [a]}}": false, "proxy: {/p: {to: 'http://u:pw@a'}}": false, "proxy: {/p: {to: 'http://a', polcy: a}}": false, "proxy: {/p: {to: 'http://a?q'}}": false, "store: [memory]": false,
	} {
		_, err := policy.Load(write(t, text))
		if storeOnly := text == "store: redis://cache"; (err == nil) != want && !storeOnly {
			t.Errorf("%q: Load: %v, want valid %v", text, err, want)
		}
		var value any
		if err := yaml.Unmarshal([]byte(text), &value); err != nil {
			t.Fatal(err)
		}
		plain, err := json.Marshal(value)
		if err == nil {
			err = json.Unmarshal(plain, &value)
		}
		if err != nil {
			t.Fatal(err)
		}
		var root map[string]any
		if err := json.Unmarshal(policy.Schema(), &root); err != nil {
			t.Fatal(err)
		}
		if got := (schema{root}).accepts(root, value); got != want {
			t.Errorf("%q: the schema says %v, want %v", text, got, want)
		}
	}
}

// A schema checks values by the keywords that Schema uses.
type schema struct{ root map[string]any }

func (s schema) accepts(by map[string]any, v any) bool {
	for keyword, is := range by {
		if !s.keyword(keyword, is, by, v) {
			return false
		}
	}
	return true
}

//nolint:forcetypeassert // a row for each keyword
func (s schema) keyword(keyword string, is any, by map[string]any, v any) bool {
	accepts := func(one any) bool { return s.accepts(one.(map[string]any), v) }
	number, isNumber := v.(float64)
	text, isText := v.(string)
	switch keyword {
	case "$ref":
		return accepts(s.root["$defs"].(map[string]any)[is.(string)[len("#/$defs/"):]])
	case "type":
		return slices.ContainsFunc(list(is), func(t any) bool { return has(t.(string), v) })
	case "enum":
		return slices.ContainsFunc(list(is), func(one any) bool { return reflect.DeepEqual(one, v) })
	case "const":
		return reflect.DeepEqual(is, v)
	case "anyOf":
		return slices.ContainsFunc(list(is), accepts)
	case "allOf":
		return !slices.ContainsFunc(list(is), func(one any) bool { return !accepts(one) })
	case "not":
		return !accepts(is)
	case "minimum":
		return !isNumber || number >= is.(float64)
	case "exclusiveMinimum":
		return !isNumber || number > is.(float64)
	case "maximum":
		return !isNumber || number <= is.(float64)
	case "pattern":
		return !isText || regexp.MustCompile(is.(string)).MatchString(text)
	case "maxLength":
		return !isText || utf8.RuneCountInString(text) <= int(is.(float64))
	case "required":
		object, ok := v.(map[string]any)
		return ok && !slices.ContainsFunc(list(is), func(name any) bool { _, ok := object[name.(string)]; return !ok })
	case "items":
		values, _ := v.([]any)
		return !slices.ContainsFunc(values, func(one any) bool { return !s.accepts(is.(map[string]any), one) })
	case "additionalProperties":
		return s.members(by, v)
	case "$schema", "$defs", "title", "description", "properties", "patternProperties":
		return true
	}
	panic("unknown keyword " + keyword)
}

// members checks the members of an object, of which no other ones are allowed.
func (s schema) members(by map[string]any, v any) bool {
	object, _ := v.(map[string]any)
	properties, _ := by["properties"].(map[string]any)
	patterns, _ := by["patternProperties"].(map[string]any)
	for name, value := range object {
		one, ok := properties[name].(map[string]any)
		for pattern, of := range patterns {
			if regexp.MustCompile(pattern).MatchString(name) {
				one, ok = of.(map[string]any)
			}
		}
		if !ok || !s.accepts(one, value) {
			return false
		}
	}
	return true
}

func list(v any) []any {
	if all, ok := v.([]any); ok {
		return all
	}
	return []any{v}
}

// has reports whether v is of that type of JSON.
func has(kind string, v any) bool {
	switch v := v.(type) {
	case nil:
		return kind == "null"
	case bool:
		return kind == "boolean"
	case string:
		return kind == "string"
	case float64:
		return kind == "number" || kind == "integer" && v == float64(int64(v))
	case []any:
		return kind == "array"
	}
	return kind == "object"
}
