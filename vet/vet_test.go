package vet_test

import (
	"fmt"
	"strings"
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/seed-0f2c7998/perdure/vet"
)

// reports is the test's T, which gets no complaint about facts: they are how a pass finds what it reports.
type reports struct{ *testing.T }

func (r reports) Errorf(format string, args ...any) {
	r.Helper()
	if text := fmt.Sprintf(format, args...); !strings.Contains(text, ": unexpected fact: ") {
		r.Error(text)
	}
}

// All passes together report the mistakes that the packages of testdata want, one package
// for each pass, and nothing else.
func TestPasses(t *testing.T) {
	all := &analysis.Analyzer{Name: "all", Doc: "run all passes", Run: func(pass *analysis.Pass) (any, error) {
		for _, a := range vet.Analyzers() {
			if _, err := a.Run(pass); err != nil {
				return nil, err
			}
		}
		return nil, nil
	}}
	for _, a := range vet.Analyzers() {
		all.Requires = append(all.Requires, a.Requires...)
		all.FactTypes = append(all.FactTypes, a.FactTypes...)
	}
	analysistest.Run(reports{t}, analysistest.TestData(), all, "./...")
}
