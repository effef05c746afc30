// Command perdurevet reports mistakes in the use of Perdure. It runs by itself, or as a
// tool of go vet:
//
//	perdurevet ./...
//	go vet -vettool=$(which perdurevet) ./...
package main

import (
	"golang.org/x/tools/go/analysis/multichecker"

	"github.com/seed-0f2c7998/perdure/vet"
)

func main() { multichecker.Main(vet.Analyzers()...) }
