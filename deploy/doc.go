// Package deploy holds what installs the program: an image, a Helm chart, the
// plain manifests that the chart renders to, a dashboard and alert rules. It is
// a module of its own, so that what its tests need stays out of the program.
package deploy
