package policy_test

import (
	"bytes"
	"os"
	"testing"

	"github.com/seed-0f2c7998/perdure/policy"
)

// docs/policy.schema.json is made by Schema: PERDURE_TEST_UPDATE=1 writes it.
func TestSchemaIsPublished(t *testing.T) {
	const path = "../docs/policy.schema.json"
	if os.Getenv("PERDURE_TEST_UPDATE") != "" {
		if err := os.WriteFile(path, policy.Schema(), 0o600); err != nil {
			t.Fatal(err)
		}
	}
	got, err := os.ReadFile(path)
	if os.IsNotExist(err) {
		t.Skip("the module is tested without the repository")
	}
	if err != nil || !bytes.Equal(got, policy.Schema()) {
		t.Errorf("%s is not that of the tables of parameters (%v): PERDURE_TEST_UPDATE=1 go test ./policy", path, err)
	}
}
