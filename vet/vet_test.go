package vet_test

import (
	"testing"

	"golang.org/x/tools/go/analysis"
	"golang.org/x/tools/go/analysis/analysistest"

	"github.com/seed-0f2c7998/perdure/vet"
)

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
	}
	analysistest.Run(t, analysistest.TestData(), all, "./...")
}
