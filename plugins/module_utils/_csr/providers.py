# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""Which provider a cluster is from, and which signer issues serving certificates there, as a table.

No single mark decides: `-eks-` in the version is Amazon EKS and EKS Anywhere alike, providerIDs name the cloud and
not who runs the control plane. Each row lists marks with points, and ENOUGH of them make a match. No match, or two,
is "unknown", with everything that was seen.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any

from .errors import ProviderError
from .signers import EKS_APP_SERVING, EPHEMERAL_CA, KUBE_APISERVER_CLIENT, KUBELET_SERVING

try:
    import jmespath
    from jmespath.exceptions import JMESPathError
except ImportError:  # reported by _run, with the interpreter's path
    pass

ENOUGH = 3
STRONG = 2
UNKNOWN = "unknown"
# The entry of a dictionary of signers that holds where the provider is unknown.
DEFAULT = "default"


@dataclass(frozen=True)
class ProviderSignal:
    """One mark of a provider.

    rule: JMESPath over the facts of _kube._cluster.cluster_facts, true unless null, false, 0 or empty.
    shows: what the mark is, with {} for what the rule found.
    """

    rule: str
    points: int
    shows: str


@dataclass(frozen=True)
class UnservedSigner:
    """A signer that leaves a request for a Service's names Approved for ever."""

    signer: str
    why: str
    remedy: str


@dataclass(frozen=True)
class Provider:
    """One provider.

    serving_signer: which signer issues a certificate for a Service's names, once approved; ephemeral-ca where none
      does; "" where none is known.
    requires: JMESPath rules that must hold, whatever the points.
    ca: where the CA that signs is published.
    longest_lifetime_seconds: None where the cluster's flags set it.
    forbidden_prefixes: of CSR object names.
    """

    name: str
    serving_signer: str
    signals: tuple[ProviderSignal, ...]
    ca: str
    source: str
    requires: tuple[str, ...] = ()
    not_served: tuple[UnservedSigner, ...] = ()
    longest_lifetime_seconds: int | None = None
    forbidden_prefixes: tuple[str, ...] = ()


@dataclass(frozen=True)
class ProviderVerdict:
    """name: a row's, or "unknown". signer: its serving signer, "" where unknown. row: None where unknown.

    evidence: what speaks for the name; where it is unknown, all that was seen and what could not be read.
    contradictions: what speaks for another row.
    """

    name: str
    signer: str
    evidence: tuple[str, ...]
    contradictions: tuple[str, ...] = ()
    row: Provider | None = None


def _version(part: str, points: int) -> ProviderSignal:
    return ProviderSignal(
        f"contains(version.gitVersion, '{part}') && version.gitVersion", points, "version {}"
    )


def _node_key(where: str, prefix: str, points: int) -> ProviderSignal:
    rule = f"nodes[*].{where}s.keys(@)[] | [?starts_with(@, '{prefix}')]"
    return ProviderSignal(rule, points, f"node {where} {{}}")


def _node_value(field: str, prefix: str, points: int) -> ProviderSignal:
    rule = f"nodes[?starts_with({field}, '{prefix}')].{field}"
    return ProviderSignal(rule, points, f"node {field} {{}}")


def _listed(fact: str, prefix: str, points: int, shows: str) -> ProviderSignal:
    return ProviderSignal(f"{fact}[?starts_with(@, '{prefix}')]", points, f"{shows} {{}}")


_KUBEADM_SIGNALS = (
    _listed("config_maps", "kube-system/kubeadm-config", 2, "ConfigMap"),
    _node_key("annotation", "kubeadm.alpha.kubernetes.io/cri-socket", 2),
)
_CLUSTER_CA = "the cluster's CA: the kubeconfig's, and ConfigMap kube-root-ca.crt of every namespace"

PROVIDERS: tuple[Provider, ...] = (
    Provider(
        "eks",
        serving_signer=EKS_APP_SERVING,
        signals=(
            _version("-eks-", 1),  # EKS Distro and EKS Anywhere have it too
            _listed("cluster_roles", "eks:certificate-controller-", 2, "ClusterRole"),
            ProviderSignal("contains(api_host, '.eks.amazonaws.com') && api_host", 2, "API server {}"),
            _node_key("label", "eks.amazonaws.com/", 2),
            _node_value("provider_id", "aws:///", 1),  # any cluster on EC2 has it
        ),
        not_served=(
            UnservedSigner(
                KUBELET_SERVING,
                "Amazon EKS issues it to real kubelets alone, whose names it checks",
                f"Use signer_name: {EKS_APP_SERVING}.",
            ),
            UnservedSigner(
                KUBE_APISERVER_CLIENT,
                "Amazon EKS does not run this signer",
                "Amazon EKS issues no client certificates: use IAM, OIDC or a ServiceAccount token.",
            ),
        ),
        ca="the cluster's CA in practice (kubeconfig, describe-cluster); AWS documents none",
        longest_lifetime_seconds=365 * 24 * 3600,
        forbidden_prefixes=("csr-",),
        source="https://docs.aws.amazon.com/eks/latest/userguide/cert-signing.html; "
        "aws/amazon-eks-pod-identity-webhook#133; aws/containers-roadmap#1604, #2079; kubernetes/kubernetes#108633",
    ),
    Provider(
        "eks-anywhere",
        serving_signer=KUBELET_SERVING,
        signals=(
            _version("-eks-", 1),
            *_KUBEADM_SIGNALS,
            _listed("api_groups", "anywhere.eks.amazonaws.com", 2, "API group"),
        ),
        requires=("contains(version.gitVersion, '-eks-')",),
        ca=_CLUSTER_CA,
        source="aws/eks-distro projects/kubernetes/kubernetes/build/lib/version.sh; aws/eks-anywhere (kubeadm)",
    ),
    Provider(
        "openshift",
        serving_signer=KUBELET_SERVING,
        signals=(
            _listed("api_groups", "config.openshift.io", 2, "API group"),
            _listed("api_groups", "security.openshift.io", 1, "API group"),
            _node_key("label", "node.openshift.io/", 2),
        ),
        ca="ConfigMap openshift-config-managed/csr-controller-ca, key ca-bundle.crt",
        longest_lifetime_seconds=720 * 3600,
        source="openshift/cluster-kube-controller-manager-operator bindata/assets/config/defaultconfig.yaml; "
        "openshift/installer#3124",
    ),
    Provider(
        "kubeadm",  # and what is made with it: kind, minikube, kubespray
        serving_signer=KUBELET_SERVING,
        signals=(
            ProviderSignal(
                "!(contains(version.gitVersion, '-') || contains(version.gitVersion, '+')) && version.gitVersion",
                1,
                "plain version {}",
            ),
            *_KUBEADM_SIGNALS,
            _node_value("provider_id", "kind://", 2),
            _node_key("label", "minikube.k8s.io/", 2),
        ),
        requires=("!contains(version.gitVersion, '-eks-')",),
        ca=_CLUSTER_CA,
        source="kubernetes cmd/kubeadm/app/phases/controlplane/manifests.go (an external CA issues nothing); "
        "kind pkg/cluster/internal/kubeadm/config.go; minikube ktmpl/v1beta4.go",
    ),
    Provider(
        "k3s",
        serving_signer=KUBELET_SERVING,
        signals=(_version("+k3s", 3),),
        ca="k3s' server CA, which is ConfigMap kube-root-ca.crt of every namespace",
        source="k3s-io/k3s#3244, #3599",
    ),
    Provider(
        "rke2",
        serving_signer=KUBELET_SERVING,
        signals=(_version("+rke2", 3),),
        ca="RKE2's server CA, which is ConfigMap kube-root-ca.crt of every namespace",
        source="rancher/rke2 go.mod (k3s)",
    ),
    Provider(
        "rke1",
        serving_signer=EPHEMERAL_CA,
        signals=(
            # Not by the prefix alone: Rancher marks the machines of its RKE2 and k3s clusters with others of it.
            _node_key("annotation", "rke.cattle.io/internal-ip", 3),
            _node_key("annotation", "rke.cattle.io/external-ip", 3),
        ),
        not_served=tuple(
            UnservedSigner(
                signer,
                "RKE1 starts kube-controller-manager without a signing CA unless its cluster.yml names one "
                "(services.kube-controller.extra_args: cluster-signing-cert-file, cluster-signing-key-file)",
                remedy,
            )
            for signer, remedy in (
                (KUBELET_SERVING, f"Use signer_name: {EPHEMERAL_CA}, or name the signing CA there."),
                (KUBE_APISERVER_CLIENT, "Name the signing CA there."),
            )
        ),
        ca="none signs; ephemeral-ca keeps its own CA in the Secret",
        source="rancher/rke cluster/plan.go BuildKubeControllerProcess, k8s/node.go; kubernetes/website#28450",
    ),
    Provider(
        "k0s",
        serving_signer=KUBELET_SERVING,
        signals=(_version("+k0s", 3),),
        ca=_CLUSTER_CA,
        source="k0sproject/k0s pkg/component/controller/controllermanager.go",
    ),
    Provider(
        "talos",
        serving_signer=KUBELET_SERVING,
        signals=(_node_value("os_image", "Talos", 3), _node_key("annotation", "talos.dev/", 2)),
        ca=_CLUSTER_CA,
        source="siderolabs/talos control_plane_final.go",
    ),
    Provider(
        "kops",
        serving_signer=KUBELET_SERVING,
        signals=(_node_key("label", "kops.k8s.io/instancegroup", 3),),
        ca=_CLUSTER_CA,
        source="kubernetes/kops nodeup/pkg/model/kube_controller_manager.go",
    ),
    Provider(
        "microk8s",
        serving_signer=KUBELET_SERVING,
        signals=(_node_key("label", "microk8s.io/cluster", 3),),
        ca=_CLUSTER_CA,
        source="canonical/microk8s microk8s-resources/default-args",
    ),
    Provider(
        "gardener",
        serving_signer=KUBELET_SERVING,
        signals=(_node_key("label", "worker.gardener.cloud/", 3),),
        ca="another CA (ca-kubelet) than ConfigMap kube-root-ca.crt",
        source="gardener/gardener#6784",
    ),
)

_NO_FACTS: Mapping[str, Any] = {
    "version": {"gitVersion": ""},
    "api_host": "",
    "api_groups": [],
    "nodes": [],
    "cluster_roles": [],
    "config_maps": [],
    "unreadable": {},
}
_NO_NODE: Mapping[str, Any] = {"labels": {}, "annotations": {}, "provider_id": "", "os_image": ""}
# What a row of the user may say, beside its name.
_OPTIONS = ("rule", "serving_signer", "ca", "longest_lifetime_seconds", "forbidden_prefixes", "source")


def detect(facts: Mapping[str, Any], overrides: Sequence[Mapping[str, Any]] = ()) -> ProviderVerdict:
    """Return the provider that the facts of _kube._cluster.cluster_facts show.

    overrides: rows of the user, see merge_rows(). Where the rule of one holds, built-in rows are not asked.
    Raises ProviderError for a row of the user that cannot be used.
    """
    nodes = [{**_NO_NODE, **node} for node in facts.get("nodes", ())]
    complete = {**_NO_FACTS, **facts, "nodes": nodes}
    seen = [_look(row, complete) for row in merge_rows(overrides)]
    of_user = {override["name"] for override in overrides if override.get("rule")}
    matches = [one for one in seen if one.row.name in of_user and one.points >= ENOUGH]
    if not matches:
        matches = [one for one in seen if one.points >= ENOUGH]
    if len(matches) != 1:
        cannot = tuple(f"cannot read {fact}: {reason}" for fact, reason in complete["unreadable"].items())
        return ProviderVerdict(UNKNOWN, "", _named(seen) + cannot, _named(matches))
    (found,) = matches
    others = [] if found.row.name in of_user else [one for one in seen if one is not found and one.is_strong]
    return ProviderVerdict(
        found.row.name, found.row.serving_signer, found.evidence, _named(others), found.row
    )


def named_by_user(
    name: str, overrides: Sequence[Mapping[str, Any]] = (), *, required: bool = True
) -> ProviderVerdict:
    """Return the verdict for a provider that the user names.

    Raises ProviderError for a name without a row; where that is not required, the verdict is "unknown".
    """
    table = merge_rows(overrides)
    row = next((row for row in table if row.name == name), None)
    if row is not None:
        return ProviderVerdict(name, row.serving_signer, ("named by the user",), row=row)
    cause = f"no provider is called {name!r}"
    if required:
        raise ProviderError(
            cause, code="unknown-provider", remedy=f"Known are: {', '.join(row.name for row in table)}."
        )
    return ProviderVerdict(UNKNOWN, "", (cause,))


def rows_for_signers(signers: Mapping[str, Any]) -> list[dict[str, Any]]:
    """Return rows for merge_rows(), from the user's signers by provider. An empty entry counts as none.

    Raises ProviderError for a signer that is not a text.
    """
    for name, signer in signers.items():
        if not isinstance(signer or "", str):
            raise ProviderError(f"the signer of provider {name!r} is not a text: {signer!r}")
    return [
        {"name": name, "serving_signer": signer}
        for name, signer in signers.items()
        if signer and name != DEFAULT
    ]


def signer_for(verdict: ProviderVerdict, default: str = "") -> str:
    """Return the signer of serving certificates there, or ``default`` where nobody knows one.

    Raises ProviderError, with all that was seen, where there is no default either.
    """
    signer = verdict.signer or default
    if signer:
        return signer
    if verdict.row is not None:
        cause = f"the provider {verdict.name} has no serving_signer"
    elif verdict.contradictions:
        cause = "marks of several providers contradict each other here, so which signer issues is not known"
    else:
        cause = "this cluster's provider is not recognised, so which signer issues here is not known"
    raise ProviderError(
        cause,
        code="signer-not-known",
        evidence=tuple(dict.fromkeys((*verdict.contradictions, *verdict.evidence)))
        or ("no mark of any provider",),
        remedy="name the provider, give signers an entry for it or an entry default, or give signer_name",
    )


def merge_rows(overrides: Sequence[Mapping[str, Any]] = ()) -> tuple[Provider, ...]:
    """Return the table with the user's rows put in, by name.

    A row of the user has `name`, and `rule` (JMESPath), `serving_signer`, `ca`, `longest_lifetime_seconds`,
    `forbidden_prefixes`, `source`: what it leaves out stays as the built-in row of that name has it.
    Raises ProviderError for a row without a name or with another key.
    """
    table = {row.name: row for row in PROVIDERS}
    for override in overrides:
        name = override.get("name")
        if not isinstance(name, str) or not name:
            raise ProviderError(f"a provider's row has no name: {dict(override)}")
        unknown = sorted(set(override) - {"name", *_OPTIONS})
        if unknown:
            raise ProviderError(
                f"the row of provider {name!r} has unknown keys: {', '.join(unknown)}",
                remedy=f"Known are: name, {', '.join(_OPTIONS)}.",
            )
        if not isinstance(override.get("rule") or "", str):
            raise ProviderError(f"the rule of provider {name!r} is not a text: {override['rule']!r}")
        table[name] = _overridden(table.get(name) or Provider(name, "", (), "", "the user"), override)
    return tuple(table.values())


def _overridden(row: Provider, override: Mapping[str, Any]) -> Provider:
    changes = {
        key: value for key, value in override.items() if key not in {"name", "rule"} and value is not None
    }
    if "forbidden_prefixes" in changes:
        changes["forbidden_prefixes"] = tuple(changes["forbidden_prefixes"])
    if override.get("rule"):
        # One rule that the user wrote outweighs any sum of marks.
        changes.update(
            requires=(), signals=(ProviderSignal(override["rule"], ENOUGH, "the user's rule holds: {}"),)
        )
    return replace(row, **changes)


@dataclass(frozen=True)
class _Look:
    """What the facts say about one row."""

    row: Provider
    points: int
    is_strong: bool
    evidence: tuple[str, ...]


def _look(row: Provider, facts: Mapping[str, Any]) -> _Look:
    if not all(_found(rule, facts, row) for rule in row.requires):
        return _Look(row, 0, False, ())
    holding = [(signal, found) for signal in row.signals if (found := _found(signal.rule, facts, row))]
    return _Look(
        row,
        points=sum(signal.points for signal, _what in holding),
        is_strong=any(signal.points >= STRONG for signal, _what in holding),
        evidence=tuple(signal.shows.format(_text(found)) for signal, found in holding),
    )


def _found(rule: str, facts: Mapping[str, Any], row: Provider) -> Any:
    try:
        return jmespath.search(rule, facts)
    except JMESPathError as error:
        raise ProviderError(
            f"the rule of provider {row.name!r} cannot be used: {error}",
            evidence=(rule,),
            remedy=f"Correct the JMESPath expression; it reads {', '.join(_NO_FACTS)}.",
        ) from error


def _text(found: Any) -> str:
    if isinstance(found, list):
        texts = list(dict.fromkeys(map(str, found)))
        return ", ".join(texts[:3]) + (f" and {len(texts) - 3} more" if len(texts) > 3 else "")
    return str(found)


def _named(looks: Iterable[_Look]) -> tuple[str, ...]:
    return tuple(f"{look.row.name}: {text}" for look in looks for text in look.evidence)
