// Command cert-manager runs cert-manager's own controllers, as far as tests of certificates need them: issuers of the
// kinds SelfSigned and CA, in a namespace or for the whole cluster, certificates, and their requests, which are all
// approved. It has no webhook, no injection of CA bundles and no ACME, and elects no leader: one copy runs at a time.
package main

import (
	"context"
	"errors"
	"fmt"
	"net/http"
	"os"
	"os/signal"
	"sync"
	"sync/atomic"
	"syscall"
	"time"

	"github.com/cert-manager/cert-manager/pkg/controller"
	"k8s.io/klog/v2"

	// Each of these makes itself known to the package controller.
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/approver"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/ca"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificaterequests/selfsigned"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/issuing"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/keymanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/readiness"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/requestmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/revisionmanager"
	_ "github.com/cert-manager/cert-manager/pkg/controller/certificates/trigger"
	_ "github.com/cert-manager/cert-manager/pkg/controller/clusterissuers"
	_ "github.com/cert-manager/cert-manager/pkg/controller/issuers"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/ca"
	_ "github.com/cert-manager/cert-manager/pkg/issuer/selfsigned"
)

const (
	workersPerController = 5
	probeAddress         = ":9403"
	// A test that makes an issuer fail waits for the next attempt; cert-manager's default is an hour.
	leastBackoff, mostBackoff = 5 * time.Second, time.Minute
)

func main() {
	ctx, stop := signal.NotifyContext(context.Background(), os.Interrupt, syscall.SIGTERM)
	defer stop()
	if err := run(ctx); err != nil {
		klog.ErrorS(err, "cert-manager ends")
		klog.FlushAndExit(klog.ExitFlushTimeout, 1)
	}
}

// run ends when the context does, or with the error of the first part that fails.
func run(ctx context.Context) error {
	namespace := os.Getenv("POD_NAMESPACE")
	if namespace == "" {
		return errors.New("POD_NAMESPACE is not set: it is where the secrets of ClusterIssuers are")
	}
	parts, fail := context.WithCancelCause(ctx)
	defer fail(nil)
	factory, err := controller.NewContextFactory(parts, options(namespace))
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	shared, err := factory.Build()
	if err != nil {
		return fmt.Errorf("connecting to the API server: %w", err)
	}
	var controllers sync.WaitGroup
	for name, construct := range controller.Known() {
		built, err := construct(factory)
		if err != nil {
			return fmt.Errorf("making the controller %s: %w", name, err)
		}
		controllers.Go(func() {
			if err := built.Run(workersPerController, parts); err != nil {
				fail(fmt.Errorf("running the controller %s: %w", name, err))
			}
		})
	}
	var ready atomic.Bool
	go func() { fail(serveProbe(&ready)) }()
	// Only now: an informer that a controller asks for after the start would never run.
	shared.SharedInformerFactory.Start(parts.Done())
	shared.KubeSharedInformerFactory.Start(parts.Done())
	shared.SharedInformerFactory.WaitForCacheSync(parts.Done())
	shared.KubeSharedInformerFactory.WaitForCacheSync(parts.Done())
	ready.Store(true)
	<-parts.Done()
	controllers.Wait()
	if ctx.Err() != nil {
		return nil
	}
	return context.Cause(parts)
}

func options(namespace string) controller.ContextOptions {
	return controller.ContextOptions{
		KubernetesAPIQPS:   50,
		KubernetesAPIBurst: 100,
		IssuerOptions:      controller.IssuerOptions{ClusterResourceNamespace: namespace},
		CertificateOptions: controller.CertificateOptions{
			CopiedAnnotationPrefixes:                 []string{"*", "-kubectl.kubernetes.io/"},
			CertificateRequestMinimumBackoffDuration: leastBackoff,
			CertificateRequestMaximumBackoffDuration: mostBackoff,
		},
	}
}

// serveProbe answers 200 once all caches are filled, so that no object is overlooked from then on.
func serveProbe(ready *atomic.Bool) error {
	return http.ListenAndServe(probeAddress, http.HandlerFunc(func(answer http.ResponseWriter, _ *http.Request) {
		if !ready.Load() {
			answer.WriteHeader(http.StatusServiceUnavailable)
		}
	}))
}
