# Copyright (c) certflow.kubernetes contributors
# GNU General Public License v3.0 or later (see LICENSE or https://www.gnu.org/licenses/gpl-3.0.txt)
# SPDX-License-Identifier: GPL-3.0-or-later
# Private to this collection: it may change at any time.

"""SHA-256 sums of the files of each release that are used. Written by tools/release_checksums.py; do not edit.

Source: the modules github.com/kubernetes-csi/external-snapshotter/vN and .../client/vN, verified by the go command's
checksum database. The files equal those of the release's tag.
"""

from __future__ import annotations

# File, by its path in the repository -> its sum -> the releases that have it.
FILES: dict[str, dict[str, str]] = {
    "client/config/crd/groupsnapshot.storage.k8s.io_volumegroupsnapshotclasses.yaml": {
        "2588977f8f7135b244f360a8d3d6d900b140863dc3e61107b3e0a04a41a137fd": "6.3.0",
        "d4de123580c51bf4adceaa1411044c6a5a341d7436eb470086a99e1a108d208c": "7.0.2",
        "93b7ac5cc0805570ac3aca5483640775912c344f7d610c76d5b8002b29f9da86": "8.1.0",
        "c05d1097706bdff75ef404ac01d34418f97a4f89cd23b868f1f48b9610d0828c": "8.2.0 8.2.1 8.3.0",
        "47603a282fba86da60a455685f6367754477785068e0a376a05252a7bb42612f": "8.4.0 8.5.0",
        "0ac1b24c628e73fbe3352c21c7929707453252a64072184727a82d2f3c42fc51": "8.6.0 8.7.0",
    },
    "client/config/crd/groupsnapshot.storage.k8s.io_volumegroupsnapshotcontents.yaml": {
        "966b02c7f8bbfa34f5261d87d537b8d7c1ddc5df693d014f1bc29e669dfe40e0": "6.3.0",
        "4144e59d48a27dd51d434214b64062dada7c9bfa91304914d519669fda126f29": "7.0.2",
        "27c9bdff1fad788baa78c232b4fc6d779c35a0b040a710b44dce199fbce744e0": "8.1.0",
        "f04eca662d02771a8b85b122b8df300289e751939dfab25b88539d0fe51eb81e": "8.2.0 8.2.1 8.3.0",
        "5bcb90038d39eb7cb43fd2868c3c9cb0a62855dfd27f5c2f0f3715b0164aabdf": "8.4.0 8.5.0",
        "dc148b9798e4aa080ab3e2dc0681e029ef75ca31adfdf96cf0a14ec309ea9c79": "8.6.0 8.7.0",
    },
    "client/config/crd/groupsnapshot.storage.k8s.io_volumegroupsnapshots.yaml": {
        "7397cf4a0f119b4a74499b66cb36c42937003b5ef073a3a560cdad477e1352c8": "6.3.0",
        "8efec7342cf9bd262981b0578c67ac43e4a7280c59f545424ac6bcd9cf1d667a": "7.0.2",
        "6c151e1af24cb312684424c458ea0c3d0083b7ae2cbf4b1109e8192e5e891784": "8.1.0",
        "029743ba0494996f763b73c50a5efcb88db0d7906cf21177050456e8576def02": "8.2.0 8.2.1 8.3.0",
        "fe20266b088a778ad05015a92a519be71d16db118ed6ffd5705b7306c3be4df3": "8.4.0 8.5.0",
        "59abaccbe9e85a611848489da53d855db4ab606894b0c4cab109a574b4a95b10": "8.6.0 8.7.0",
    },
    "client/config/crd/snapshot.storage.k8s.io_volumesnapshotclasses.yaml": {
        "750709567d9c767248daa5a5e550d7c09d9f2fcd05b75f83b256a0781fc130c3": "4.2.1",
        "ad642f8cac4ef405b8173e70427f5f799fd127a7512fda803098fcbf12f23f0f": "6.2.2",
        "e0397fd4e3f81db22d7de4baeb333d333e802f05b7902d0a32f23cc70e693c47": "6.3.0",
        "f0d8262370625ee7c8ddeee5ddf25b982235686581564175c1096ff43fb551bf": "7.0.2",
        "75e6565aac2c0f2949ed13ea884bbaa388cb7be576b558b709cf1168e011828d": "8.1.0 8.2.0 8.2.1 8.3.0 8.4.0 8.5.0 8.6.0 8.7.0",
    },
    "client/config/crd/snapshot.storage.k8s.io_volumesnapshotcontents.yaml": {
        "3d68110dd33d4e26ce427bb805ec7dcacfa2b473b31f04e43de6fff49442c0c4": "4.2.1",
        "28b41a21f0c43d42eb0e8db6b138aa4acc7bc5f6b1f3532cf6c97bc908b8b8ed": "6.2.2",
        "974db7292f4ee4bf335483536b44e8b339e32ae4ca3423e4fbeb2299f3d96660": "6.3.0",
        "a107a614f2422dddcedbbf8c037189adf2e3b9066176e453083b9b1c82ee6300": "7.0.2",
        "895a3c1e73b60f06a0deb566dd123d01bdf1b2efc5d5ff5231ff8bbcf42dafc7": "8.1.0 8.2.0 8.2.1 8.3.0 8.4.0 8.5.0 8.6.0 8.7.0",
    },
    "client/config/crd/snapshot.storage.k8s.io_volumesnapshots.yaml": {
        "c6c608935f4b8a0d7c5252c72ff930206f3448c9a672e5eb8fb9ddd4569abb22": "4.2.1",
        "8092c38823e738e2d934820e0aec20835627dc9116783dec6c9de7a9ac6b705e": "6.2.2",
        "d7939ea45a8798e11c0063dfdfe93e4d9e4b09a1160881f2cc403a6e8f0fa4d5": "6.3.0",
        "c27366e71667924a07f78b78d5071e1e8e575d9eec45e41110e79e49b53ef99b": "7.0.2",
        "b032116e987fb1d7d93cec7d942833adeb9d95c9bdc7e00c10b280c2fe4a6c33": "8.1.0 8.2.0 8.2.1 8.3.0 8.4.0 8.5.0 8.6.0 8.7.0",
    },
    "deploy/kubernetes/snapshot-controller/rbac-snapshot-controller.yaml": {
        "e3862bfb2859788aa85854c03eedccfd031e7fde629ef880eb29564cc61c0250": "4.2.1",
        "a63d818d5c7d6c4fbdac250a1bd3fe9e02e4138e3ed97b2680dacd0194a39c5b": "6.2.2",
        "b7931022e9ca48641218fcf2a8732e77ec64c1b29cf5a3bde4b30c07a0f365a2": "6.3.0",
        "aefaadbfb97cbb22848769b0fef1b6faa27b56dd5d2d232f3e06eb7573bcfa4a": "7.0.2 8.1.0",
        "99c4ac480b6c9563be0d85599e29cc7b68b25a82d250b0e789726727551e8d38": "8.2.0 8.2.1 8.3.0 8.4.0 8.5.0 8.6.0 8.7.0",
    },
    "deploy/kubernetes/snapshot-controller/setup-snapshot-controller.yaml": {
        "6d6902a439ea0735c536027a21550c858f34ffbd7a6ed1e8eab69a621fbbe069": "4.2.1",
        "f6051742d30192d017cc993bc1e94421ebcfc561cb376c06080579fb99db5e6d": "6.2.2",
        "c6dd4a3d59c4e034400893473e180519780ba96183724620605c9e38cc61b764": "6.3.0",
        "3307300e695206bd173048aabe3b96da97d671665b358633004f31a325b3f311": "7.0.2",
        "faf5c93e57bcbfb0f5831a0ca93d869764980f3d113c8379a7ccb6464d5f910c": "8.1.0 8.2.0",
        "a2985308839d7809cf60bff2df51b2e440bb4ef9498385fad3049a786b8d04a4": "8.2.1",
        "7a0b228f8570917dae9556f9540b9ba0fd0267f365ffc486826184fc5832488f": "8.3.0 8.4.0",
        "bab025e1fed9199c5d827f64febb572dd8b746928e48d656312a215bede74d92": "8.5.0",
        "920166ff9001203e9def2504903eb196cd1da55d520f022807cc6ac82ef8eeba": "8.6.0",
        "54b9342a7433c377b83a671babf416660078a716ec2e63f658a77aa629de5581": "8.7.0",
    },
    "deploy/kubernetes/webhook-example/admission-configuration-template": {
        "1432262eb69227a62911bc8b9d489df6d19e79097cb4746cb02a01e17cfd59ca": "4.2.1",
        "b6491c7627613ae382b9037cb186b1806ae83b35ccdf94ff1b80b6fcd4cc5e95": "6.2.2",
        "545265522e1593879d8cbc06782f8f85a79786ba40dfeab59175bfa587a4f8b1": "6.3.0 7.0.2",
        "164b2c4aae3cb348770fe7a9cf248475d9b82983c964aacf7d345e819670e9e5": "8.1.0",
    },
    "deploy/kubernetes/webhook-example/rbac-snapshot-webhook.yaml": {
        "fea72abddae687e837e4e9c05ac6cd4e5da99c587a06d2842151b96b37830b6d": "6.2.2",
        "cda9ecf649a7a24d409a1a96a27d00c24d178d32cd5fbe0abb0d071693d9a712": "6.3.0 7.0.2 8.1.0",
    },
    "deploy/kubernetes/webhook-example/webhook.yaml": {
        "724cc0097dec4868521c3f4b3fcfb41914d0a4ece65b4141ff5a9f604ce80ee5": "4.2.1",
        "c0b925770d1d9f975c361bc85ab253b4849028177fe3957bd19131edaf4777a5": "6.2.2",
        "fc6e6e7575d7b6dbf86e59162e5b30506f442ac3f59b4a66d32187da0a1572de": "6.3.0",
        "35df926cee2be21071b7fd6baa6305592f396734b00b2f39f11bf8f367af1ae3": "7.0.2",
        "b86bebe44dfe45f80c16f78df785d8da01f477e149d3feedab09dba4468055c3": "8.1.0",
        "b814c967f74dda24fc301da9dcdbae9fa8745aad316d9fab7a2469146751ed46": "8.4.0 8.5.0 8.6.0 8.7.0",
    },
}
# Release -> file -> sum.
SUMS: dict[str, dict[str, str]] = {
    release: {
        name: value
        for name, values in FILES.items()
        for value, releases in values.items()
        if release in releases.split()
    }
    for release in "4.2.1 6.2.2 6.3.0 7.0.2 8.1.0 8.2.0 8.2.1 8.3.0 8.4.0 8.5.0 8.6.0 8.7.0".split()
}
