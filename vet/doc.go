// Package vet finds mistakes in the use of Perdure, as a pass of go/analysis.
package vet
