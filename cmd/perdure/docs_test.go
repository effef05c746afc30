//go:build unix

package main

import (
	"os"
	"path/filepath"
	"reflect"
	"regexp"
	"strings"
	"testing"

	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/policy"
	"github.com/seed-0f2c7998/perdure/cmd/perdure/internal/state"
)

// docs/shared-state.md has each field that a key has in `status --json`, and each variable of --on-open.
func TestFieldsOfStatusInThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/shared-state.md")
	if err != nil {
		t.Fatal(err)
	}
	_, section, _ := strings.Cut(string(page), "## Inspecting and overriding")
	for field := range reflect.TypeFor[state.Row]().Fields() {
		name, _, _ := strings.Cut(field.Tag.Get("json"), ",")
		if name != "-" && !strings.Contains(section, "`"+name+"`") {
			t.Errorf("docs/shared-state.md lacks the field %s of status --json", name)
		}
	}
	for _, name := range policy.BreakerVariables() {
		if !strings.Contains(string(page), "| `"+name+"` |") {
			t.Errorf("docs/shared-state.md lacks the variable %s of --on-open", name)
		}
	}
}

// TestHelpOfCopyNamesEachAddress compares the help with the errors, which name the addresses of the table of schemes.
func TestHelpOfCopyNamesEachAddress(t *testing.T) {
	help, err := command(t, nil, "copy", "--help").Output()
	if err != nil {
		t.Fatal(err)
	}
	text := strings.Join(strings.Fields(string(help)), " ")
	for _, args := range [][]string{{"none://x", "y"}, {"x", "none://y"}} {
		var stderr strings.Builder
		refused := command(t, nil, append([]string{"copy"}, args...)...)
		refused.Stderr = &stderr
		_ = refused.Run() // with an error, which is read here
		_, list, found := strings.Cut(strings.TrimSpace(stderr.String()), ": must be ")
		if !found {
			t.Errorf("copy %v: %q, want an error that says which addresses are allowed", args, &stderr)
		}
		for address := range strings.SplitSeq(list, ", ") {
			if address = strings.TrimPrefix(address, "or "); !strings.Contains(strings.ToLower(text), strings.ToLower(address)) {
				t.Errorf("the help of copy in cmd/perdure/copy.go lacks %q, which the table of schemes has", address)
			}
		}
	}
}

// What docs/shared-state.md shows of an open breaker is what the command prints, but for the instants.
func TestOpenBreakerOfThePage(t *testing.T) {
	page, err := os.ReadFile("../../docs/shared-state.md")
	if err != nil {
		t.Fatal(err)
	}
	blocks := regexp.MustCompile("(?s)```\n((?:perdure: |\\$ perdure status\n).*?)\n```").FindAllStringSubmatch(string(page), -1)
	if len(blocks) != 2 {
		t.Fatalf("docs/shared-state.md shows %d outputs of the command, want 2", len(blocks))
	}
	state := []string{"PERDURE_STATE=" + t.TempDir(), "PERDURE_JITTER=0"}
	for range 5 { // none of them retries, so that nothing waits
		_ = command(t, state, "run", "--name", "load", "--max-attempts", "1", "--", "false").Run() // it fails, as it is to
	}
	refused := command(t, state, "run", "--name", "load", "--", "true")
	var stderr strings.Builder
	refused.Stderr = &stderr
	if err := refused.Run(); err == nil {
		t.Error("the breaker is not open")
	}
	status, err := command(t, state, "status").Output()
	if err != nil {
		t.Fatal(err)
	}
	varying := regexp.MustCompile(`(?:\b[A-Z]{3,5}|[+-]\d{2,4}),|\bnow\b|\d+ s ago|\d+|-?Z|[+-]\d\d:\d\d| +`)
	normal := func(text string) string {
		return varying.ReplaceAllStringFunc(strings.TrimSpace(text), func(s string) string {
			if s[0] == ' ' {
				return " "
			}
			return "0"
		})
	}
	for i, got := range []string{stderr.String(), "$ perdure status\n" + string(status)} {
		if got, want := normal(got), normal(blocks[i][1]); got != want {
			t.Errorf("the command prints\n%s\nand docs/shared-state.md shows\n%s", got, want)
		}
	}
}

// What docs/policies.md shows of check is what the command prints of the file of the page.
func TestCheckOfThePoliciesPage(t *testing.T) {
	page, err := os.ReadFile("../../docs/policies.md")
	if err != nil {
		t.Fatal(err)
	}
	file := regexp.MustCompile("(?s)```yaml\n(.*?)```").FindSubmatch(page)
	shown := regexp.MustCompile("(?s)```\n\\$ perdure check policies.yaml\n(.*?)```").FindSubmatch(page)
	if file == nil || shown == nil {
		t.Fatal("docs/policies.md shows no file, or no output of check")
	}
	check := command(t, nil, "check", "policies.yaml")
	check.Dir = t.TempDir()
	if err := os.WriteFile(filepath.Join(check.Dir, "policies.yaml"), file[1], 0o600); err != nil {
		t.Fatal(err)
	}
	printed, err := check.Output()
	if err != nil {
		t.Fatal(err)
	}
	rest := string(printed)
	for line := range strings.Lines(string(shown[1])) {
		_, after, found := strings.Cut(rest, line)
		switch {
		case line == "...\n":
		case found:
			rest = after
		default:
			t.Fatalf("check does not print, or not in this order: %s%s", line, printed)
		}
	}
}
