package policy_test

import (
	"context"
	"os"
	"regexp"
	"strings"
	"testing"
	"time"

	"github.com/seed-0f2c7998/perdure/policy"
	"github.com/seed-0f2c7998/perdure/retry"
)

func codeOfThePage(ctx context.Context, download func(context.Context) error) error {
	set, err := policy.Load("policies.yaml") // "" means the default place
	if err != nil {
		return err
	}
	go set.Watch(ctx, 5*time.Second) // optional: reloads the file when it changes

	fetch, err := set.For("fetch") // before each operation: the policy of the file as it is now
	if err != nil {
		return err
	}
	return retry.Do(ctx, fetch, download)
}

// The file and the code of docs/policies.md work together, and the file of the package's doc
// is the same as the page's.
func TestPoliciesPageIsTested(t *testing.T) {
	page, err := os.ReadFile("../docs/policies.md")
	if os.IsNotExist(err) {
		t.Skip("the module is tested without the repository")
	}
	doc, failed := os.ReadFile("doc.go")
	source, missing := os.ReadFile("docs_test.go")
	if err != nil || failed != nil || missing != nil {
		t.Fatal(err, failed, missing)
	}
	block := func(kind string) string {
		all := regexp.MustCompile("(?s)```"+kind+"\n(.*?)```").FindAllStringSubmatch(string(page), -1)
		if len(all) != 1 {
			t.Fatalf("docs/policies.md has %d blocks of %s, want 1", len(all), kind)
		}
		return all[0][1]
	}
	indented := func(text, by string) string { return regexp.MustCompile(`(?m)^(.)`).ReplaceAllString(text, by+"$1") }
	if code := block("go"); !strings.Contains(string(source), indented(code, "\t")) {
		t.Errorf("docs/policies.md shows what is not compiled here:\n%s", code)
	}
	schema, file, _ := strings.Cut(block("yaml"), "\n")
	if !strings.HasPrefix(schema, "# yaml-language-server: $schema=https://") {
		t.Errorf("the file begins with %s, want the schema for editors", schema)
	}
	if !strings.Contains(string(doc), indented(file, "//\t")) {
		t.Error("the file of docs/policies.md is not that of doc.go")
	}
	t.Setenv("PERDURE_STATE", t.TempDir())
	t.Chdir(t.TempDir())
	rewrite(t, "policies.yaml", file)
	calls := 0
	err = codeOfThePage(t.Context(), func(context.Context) error { calls++; return nil })
	if err != nil || calls != 1 {
		t.Errorf("%v after %d calls", err, calls)
	}
}
